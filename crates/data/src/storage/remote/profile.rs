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

pub(super) fn apply(mut builder: AmazonS3Builder) -> AmazonS3Builder {
    let profile = variable("AWS_PROFILE").unwrap_or_else(|| "default".into());
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
    for path in files {
        // A file that is not there says nothing.
        let text = match std::fs::read_to_string(&path) {
            Ok(text) => text,
            Err(_) => continue,
        };
        let profiles = match Ini::load_from_str(&text) {
            Ok(profiles) => profiles,
            Err(error) => {
                log::warn!("{}: {error}; its profiles are not used", path.display());
                continue;
            }
        };
        for name in [profile.clone(), format!("profile {profile}")] {
            let Some(settings) = profiles.section(Some(name)) else {
                continue;
            };
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
    builder
}

fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}
