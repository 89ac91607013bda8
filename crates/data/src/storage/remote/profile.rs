//! Keys and region from Amazon's profile files, for what the environment does not say: `~/.aws/credentials` and `~/.aws/config`, or
//! the files that `AWS_SHARED_CREDENTIALS_FILE` and `AWS_CONFIG_FILE` name; the profile is `AWS_PROFILE`, else `default`.

use std::path::PathBuf;

use ini::Ini;
use object_store::aws::{AmazonS3Builder, AmazonS3ConfigKey as Key};

/// Names in a profile, and what they set.
const SETTINGS: [(&str, Key); 5] = [
    ("aws_access_key_id", Key::AccessKeyId),
    ("aws_secret_access_key", Key::SecretAccessKey),
    ("aws_session_token", Key::Token),
    ("region", Key::Region),
    ("endpoint_url", Key::Endpoint),
];

/// Ways to keys that are not gone here.
const OTHER_WAYS: [&str; 4] = [
    "credential_process",
    "role_arn",
    "sso_session",
    "sso_start_url",
];

/// Adds what the profile says.
///
/// # Errors
/// In words, when there is no such profile, or its keys are to be had in a way that is not gone here, and keys are needed.
pub(super) fn apply(mut builder: AmazonS3Builder) -> Result<AmazonS3Builder, String> {
    let named = variable("AWS_PROFILE");
    let profile = named.clone().unwrap_or_else(|| "default".into());
    let file = |name: &str, default: &str| {
        let home = || std::env::home_dir().unwrap_or_default().join(".aws");
        variable(name).map_or_else(|| home().join(default), PathBuf::from)
    };
    let files = [
        file("AWS_SHARED_CREDENTIALS_FILE", "credentials"),
        file("AWS_CONFIG_FILE", "config"),
    ];
    // Half of a pair of keys from here and half from there is none.
    let has_keys = builder.get_config_value(&Key::AccessKeyId).is_some();
    let (mut is_there, mut other_way) = (false, None);
    for path in &files {
        // A file that is not there says nothing.
        let Ok(text) = std::fs::read_to_string(path) else {
            continue;
        };
        let profiles =
            Ini::load_from_str(&text).map_err(|error| format!("{}: {error}", path.display()))?;
        for name in [profile.clone(), format!("profile {profile}")] {
            let Some(settings) = profiles.section(Some(name)) else {
                continue;
            };
            is_there = true;
            other_way = other_way.or(OTHER_WAYS
                .into_iter()
                .find(|way| settings.contains_key(way)));
            for (setting, key) in &SETTINGS {
                let is_key = matches!(key, Key::AccessKeyId | Key::SecretAccessKey | Key::Token);
                if let Some(value) = settings.get(setting)
                    && builder.get_config_value(key).is_none()
                    && !(is_key && has_keys)
                {
                    builder = builder.with_config(*key, value);
                }
            }
        }
    }
    let [keys, settings] = files.map(|path| path.display().to_string());
    match (builder.get_config_value(&Key::AccessKeyId), other_way) {
        (None, _) if named.is_some() && !is_there => Err(format!(
            "the profile {profile} of AWS_PROFILE is neither in {keys} nor in {settings}"
        )),
        (None, Some(way)) => Err(format!(
            "the profile {profile} has {way} and no keys; `aws configure export-credentials --profile {profile} --format env` shows \
             what to put into the environment"
        )),
        _ => Ok(builder),
    }
}

pub(super) fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}
