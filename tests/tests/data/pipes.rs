//! Commands whose output is data: what they say, how they fail, and that none is left behind.

use std::io::{ErrorKind, Read};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use openclip_data::storage::{Patience, Place, Stream, Watch};

fn open(command: &str, timeout: f64) -> Stream {
    let patience = Patience {
        timeout: Duration::from_secs_f64(timeout),
        attempts: 3,
    };
    let place = Place::parse(&format!("pipe:{command}")).unwrap();
    place.open(patience, Watch::default()).unwrap()
}

fn read(command: &str) -> std::io::Result<String> {
    let mut all = String::new();
    open(command, 10.0).read_to_string(&mut all).map(|_| all)
}

/// The words of the failure of a command that may be silent for half a second.
fn fails(command: &str) -> String {
    let start = Instant::now();
    let mut stream = open(command, 0.5);
    let error = stream.read_to_end(&mut Vec::new()).unwrap_err();
    drop(stream);
    assert!(start.elapsed() < Duration::from_secs(8), "{error}");
    error.to_string()
}

/// The process with the number in this file, which appears in time.
fn number(file: &Path) -> u32 {
    let start = Instant::now();
    loop {
        let text = std::fs::read_to_string(file).unwrap_or_default();
        if let Ok(number) = text.trim().parse() {
            return number;
        }
        assert!(start.elapsed() < Duration::from_secs(20), "{file:?}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Whether a process runs. One that is dead and not asked after is somebody else's here, unless it is our child.
fn runs(process: u32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{process}/stat")).unwrap_or_default();
    let Some((_, rest)) = stat.rsplit_once(") ") else {
        return false;
    };
    let parent = rest.split(' ').nth(1).unwrap();
    !rest.starts_with('Z') || parent == std::process::id().to_string()
}

fn is_gone_soon(process: u32) {
    let start = Instant::now();
    while runs(process) {
        assert!(start.elapsed() < Duration::from_secs(3), "{process} runs");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// A folder, and a command that notes its own number, its parent's and that of a child in the background before `rest`.
fn noted(rest: &str) -> (tempfile::TempDir, String) {
    let room = tempfile::tempdir().unwrap();
    let path = room.path().display();
    let command = format!(
        "sleep 1000 >/dev/null 2>&1 & echo $! >{path}/child; echo $PPID >{path}/parent; echo $$ >{path}/own; {rest}"
    );
    (room, command)
}

fn all_gone(room: &Path) {
    for name in ["own", "parent", "child"] {
        is_gone_soon(number(&room.join(name)));
    }
}

#[test]
fn what_commands_write() {
    for (command, expected) in [
        ("printf abc", "abc"),
        ("printf 'a b' | tr ' ' _", "a_b"),
        (r#"printf "%s" "it's \"so\"" && printf !"#, "it's \"so\"!"),
        ("false || printf x; true", "x"),
        ("printf '' ", ""),
        ("cat", ""),
        ("head -c 3 /dev/zero | tr '\\0' a", "aaa"),
        ("printf a; sleep 0.2; printf b", "ab"),
        ("yes | head -c 4; exit 0", "y\ny\n"),
        ("echo said >&2; printf q", "q"),
    ] {
        assert_eq!(read(command).unwrap(), expected, "{command}");
    }
    let mut all = Vec::new();
    let mut stream = open("head -c 50000000 /dev/zero", 10.0);
    stream.read_to_end(&mut all).unwrap();
    assert!(all.len() == 50_000_000 && all.iter().all(|&byte| byte == 0));
}

#[test]
fn how_commands_fail() {
    for (command, words) in [
        ("exit 3", "failed with exit status 3; it said nothing"),
        (
            "printf part; echo why not >&2; exit 1",
            "exit status 1: why not",
        ),
        ("no-such-command-at-all x", "exit status 127: "),
        ("no-such-command-at-all x", "not found"),
        ("kill -9 $$", "ended by signal 9"),
        ("kill -SEGV $$", "ended by signal 11"),
        ("kill -9 0", "the command was ended"),
        ("sleep 5", "wrote nothing for 500ms"),
        (
            "printf x; echo waiting >&2; sleep 5",
            "wrote nothing for 500ms: waiting",
        ),
        ("exec >&-; sleep 20", "wrote nothing for 500ms"),
        (
            "AWS_SECRET_ACCESS_KEY=abc env | grep SECRET >&2; exit 2",
            "KEY=***",
        ),
        ("a '", "exit status 2"),
    ] {
        let error = fails(command);
        assert!(error.contains(words), "{command}: {error}");
        assert!(!error.contains('\n'), "{error}");
    }
    // The last words are those at the end of much.
    let error = fails("yes nothing | head -c 3000000 >&2; echo the end >&2; exit 1");
    assert!(error.ends_with("the end") && error.len() < 3000, "{error}");
    let parts = Place::parse("pipe:printf abc").unwrap();
    let error = parts.read_range(0, 1, None, Patience::default(), Watch::default());
    assert_eq!(error.unwrap_err().kind(), ErrorKind::NotSeekable);
}

#[test]
fn nothing_is_left_when_all_was_read() {
    let (room, command) = noted("printf all");
    assert_eq!(read(&command).unwrap(), "all");
    all_gone(room.path());
    let (room, command) = noted("exit 4");
    assert!(fails(&command).contains("exit status 4"));
    all_gone(room.path());
    // A child that keeps the output does not keep the reader.
    let start = Instant::now();
    assert_eq!(read("sleep 30 & printf all").unwrap(), "all");
    assert!(start.elapsed() < Duration::from_secs(5));
}

#[test]
fn nothing_is_left_when_reading_stops() {
    for rest in [
        "cat /dev/zero",
        "yes | cat | cat",
        "sleep 1000",
        "trap '' TERM INT HUP; while :; do sleep 1; done",
    ] {
        let (room, command) = noted(rest);
        let start = Instant::now();
        let mut stream = open(&command, 10.0);
        if rest == "cat /dev/zero" {
            stream.read_exact(&mut vec![0; 3 << 20]).unwrap();
        }
        number(&room.path().join("own"));
        drop(stream);
        assert!(start.elapsed() < Duration::from_secs(3), "{rest}");
        all_gone(room.path());
    }
    // Before anybody asked for a byte, and when somebody panics.
    let (room, command) = noted("cat /dev/zero");
    let started = Place::Pipe(command).start(Patience::default());
    number(&room.path().join("own"));
    drop(started);
    all_gone(room.path());
    let (room, command) = noted("cat /dev/zero");
    let panicked = std::panic::catch_unwind(|| {
        let _stream = open(&command, 10.0);
        number(&room.path().join("own"));
        std::panic::resume_unwind(Box::new(()));
    });
    assert!(panicked.is_err());
    all_gone(room.path());
}

#[test]
fn a_wait_for_a_silent_command_ends_when_nothing_is_wanted() {
    let place = Place::parse("pipe:sleep 1000").unwrap();
    let start = Instant::now();
    let watch = Watch::new(move || start.elapsed() > Duration::from_millis(200));
    let mut stream = place.open(Patience::default(), watch).unwrap();
    let error = stream.read(&mut [0; 1]).unwrap_err();
    drop(stream);
    assert_eq!(error.kind(), ErrorKind::ConnectionAborted);
    assert!(start.elapsed() < Duration::from_secs(2));
}

/// This program again, for tests that need a process of their own.
fn again(filter: &[&str]) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command
        .args(filter)
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    command
}

const ROOM: &str = "OPENCLIP_TEST_ROOM";

#[test]
#[ignore = "the other side of `nothing_is_left_when_the_run_is_killed`"]
fn reads_until_it_is_killed() {
    let room = PathBuf::from(std::env::var_os(ROOM).unwrap());
    let note = |name: &str| room.join(name).display().to_string();
    let (own, parent) = (note("own"), note("parent"));
    let command = format!("echo $PPID >{parent}; echo $$ >{own}; cat /dev/zero | cat");
    let mut stream = open(&command, 10.0);
    while stream.read(&mut [0; 4096]).unwrap() > 0 {}
}

#[test]
fn nothing_is_left_when_the_run_is_killed() {
    let room = tempfile::tempdir().unwrap();
    let mut run = again(&["--exact", "pipes::reads_until_it_is_killed", "--ignored"])
        .env(ROOM, room.path())
        .spawn()
        .unwrap();
    let own = number(&room.path().join("own"));
    assert!(runs(own));
    run.kill().unwrap();
    run.wait().unwrap();
    is_gone_soon(own);
    is_gone_soon(number(&room.path().join("parent")));
}

#[test]
fn with_another_shell() {
    let Some(bash) = ["/bin/bash", "/usr/bin/bash"]
        .into_iter()
        .find(|path| Path::new(path).exists())
    else {
        return;
    };
    let room = tempfile::tempdir().unwrap();
    std::os::unix::fs::symlink(bash, room.path().join("sh")).unwrap();
    let path = std::env::var("PATH").unwrap();
    let path = format!("{}:{path}", room.path().display());
    let output = again(&["pipes::", "--skip", "with_another_shell"])
        .env("PATH", path)
        .stdout(Stdio::piped())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{said}");
    assert!(
        said.contains("5 passed") || said.contains("6 passed"),
        "{said}"
    );
}
