//! A folder with a tiny model, pictures and captions, and the binary run in it.

#[cfg(unix)]
pub mod dice;
#[cfg(feature = "hub")]
pub mod fake_hub;
#[cfg(unix)]
pub mod runs;
#[cfg(feature = "cloud")]
pub mod s3;
#[cfg(feature = "hub")]
pub mod server;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use openclip_model::weights::StateDict;
use openclip_tests::{finite, named_values};
use serde_json::Value;

/// A working folder that is removed at the end.
pub struct Room {
    dir: tempfile::TempDir,
}

/// What a command left behind.
pub struct Ran {
    pub status: i32,
    pub stdout: String,
    pub stderr: String,
}

impl Room {
    /// With `tiny.json`, random weights `tiny.safetensors`, and the pictures `red.png`, `green.png` and `blue.png`.
    pub fn new() -> Self {
        let room = Self::empty();
        room.write("tiny.json", MODEL);
        for (name, colour) in [
            ("red", [220, 20, 30]),
            ("green", [10, 200, 40]),
            ("blue", [30, 40, 210]),
        ] {
            room.picture(&format!("{name}.png"), colour);
        }
        room.run(&[
            "convert",
            "--model",
            "tiny.json",
            "--seed",
            "7",
            "--output",
            "tiny.safetensors",
        ])
        .ok();
        room
    }

    /// Without anything in it.
    pub fn empty() -> Self {
        Self {
            dir: tempfile::tempdir().unwrap(),
        }
    }

    /// With a `tiny.json` of one layer a tower and a `train.csv` that lists four captioned pictures so many times.
    pub fn captioned(times: usize) -> Self {
        let room = Self::empty();
        room.write("tiny.json", MODEL.replace("\"layers\": 2", "\"layers\": 1"));
        let mut rows = String::new();
        for (name, colour) in [
            ("red", [220, 20, 30]),
            ("green", [10, 200, 40]),
            ("blue", [30, 40, 210]),
            ("gray", [90, 90, 90]),
        ] {
            room.picture(&format!("{name}.png"), colour);
            rows += &format!("{name}.png\ta {name} picture\n");
        }
        room.write(
            "train.csv",
            format!("filepath\ttitle\n{}", rows.repeat(times)),
        );
        room
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub fn write(&self, name: &str, content: impl AsRef<[u8]>) {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }

    /// A PNG of 24 × 20 pixels around one colour.
    pub fn picture(&self, name: &str, colour: [u8; 3]) {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        write_png(&path, colour);
    }

    /// Runs `openclip ARGS` in the folder.
    pub fn run(&self, args: &[&str]) -> Ran {
        let output = self.command(args).output().unwrap();
        Ran::from(output)
    }

    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_openclip"));
        command
            .args(args)
            .current_dir(self.dir.path())
            .stdin(Stdio::null());
        command
            .env("HOME", self.dir.path())
            .env("COLUMNS", "100")
            .env_remove("CLICOLOR_FORCE")
            .env_remove("OPENCLIP_LOG");
        command
    }
}

impl From<Output> for Ran {
    fn from(output: Output) -> Self {
        Self {
            // Ended by a signal, as an abort is.
            status: output.status.code().unwrap_or(-1),
            stdout: String::from_utf8(output.stdout).unwrap(),
            stderr: String::from_utf8(output.stderr).unwrap(),
        }
    }
}

impl Ran {
    /// Asserts success.
    pub fn ok(self) -> Self {
        assert_eq!(self.status, 0, "{}", self.stderr);
        self
    }

    /// Asserts an exit status, one line of error and nothing on stdout; returns that line.
    pub fn error(self, status: i32) -> String {
        assert_eq!(self.status, status, "{}", self.stderr);
        assert_eq!(self.stdout, "");
        assert!(!self.stderr.contains("panicked"), "{}", self.stderr);
        let mut errors = self
            .stderr
            .lines()
            .filter_map(|line| line.strip_prefix("error: "));
        let error = errors
            .next()
            .unwrap_or_else(|| panic!("no error in {:?}", self.stderr))
            .to_owned();
        assert!(errors.next().is_none(), "{}", self.stderr);
        error
    }

    pub fn json(&self) -> Value {
        serde_json::from_str(&self.stdout).unwrap()
    }
}

fn write_png(path: &Path, colour: [u8; 3]) {
    let (width, height) = (24_u32, 20_u32);
    let file = fs::File::create(path).unwrap();
    let mut encoder = png::Encoder::new(file, width, height);
    encoder.set_color(png::ColorType::Rgb);
    let mut pixels = Vec::new();
    for at in 0..width * height {
        pixels.extend(colour.map(|value| value.wrapping_add((at * 7 % 23) as u8)));
    }
    encoder
        .write_header()
        .unwrap()
        .write_image_data(&pixels)
        .unwrap();
}

const MODEL: &str = r#"{
    "embed_dim": 16,
    "vision_cfg": {"image_size": 32, "patch_size": 8, "width": 32, "head_width": 16, "layers": 2},
    "text_cfg": {"context_length": 16, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 2}
}"#;

/// The bytes of a file of finite weights.
pub fn weights(file: &Path) -> Vec<u8> {
    named_values(&StateDict::read(file).unwrap());
    fs::read(file).unwrap()
}

/// A float32 matrix of a `.npy` file, by rows.
pub fn read_npy(path: &Path) -> Vec<Vec<f32>> {
    let bytes = fs::read(path).unwrap();
    let header = String::from_utf8_lossy(&bytes[10..128]).into_owned();
    let shape = header
        .split_once("'shape': (")
        .unwrap()
        .1
        .split_once(')')
        .unwrap()
        .0;
    let columns: usize = shape.split_once(',').unwrap().1.trim().parse().unwrap();
    let values: Vec<f32> = bytes[128..]
        .chunks(4)
        .map(|value| f32::from_le_bytes(value.try_into().unwrap()))
        .collect();
    finite(&values)
        .chunks(columns)
        .map(<[f32]>::to_vec)
        .collect()
}

/// The rows of `metadata_0.parquet`: name and caption, where there is one.
pub fn read_metadata(dir: &Path) -> Vec<(Option<String>, Option<String>)> {
    use parquet::file::reader::{FileReader, SerializedFileReader};
    use parquet::record::Field;
    let file = fs::File::open(dir.join("metadata/metadata_0.parquet")).unwrap();
    let reader = SerializedFileReader::new(file).unwrap();
    let text = |field: &Field| match field {
        Field::Str(text) => Some(text.clone()),
        _ => None,
    };
    let rows = reader.get_row_iter(None).unwrap().map(|row| {
        let columns = row.unwrap().into_columns();
        (text(&columns[0].1), text(&columns[1].1))
    });
    rows.collect()
}

/// Dot product of two rows.
pub fn dot(a: &[f32], b: &[f32]) -> f32 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}
