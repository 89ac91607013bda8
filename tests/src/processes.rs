//! A test that starts itself again as the processes of an MPI world.

use std::path::{Path, PathBuf};
use std::process::Command;

const FOLDER: &str = "OPENCLIP_RANKS_FOLDER";

/// The folder that [`launch`] was given, in a process that it started.
pub fn folder() -> PathBuf {
    std::env::var_os(FOLDER).expect(FOLDER).into()
}

/// Runs an ignored `test` of this binary as `world` processes.
pub fn launch<Test: Fn()>(world: usize, _test: Test, folder: &Path) {
    // The harness leaves out the name of the binary.
    let path = std::any::type_name::<Test>();
    let (_, name) = path.split_once("::").expect(path);
    let output = Command::new("mpirun")
        .args(["--oversubscribe", "-n", &world.to_string()])
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", name, "--ignored", "--test-threads", "1"])
        .env(FOLDER, folder)
        .env("OMPI_ALLOW_RUN_AS_ROOT", "1")
        .env("OMPI_ALLOW_RUN_AS_ROOT_CONFIRM", "1")
        .env("RAYON_NUM_THREADS", "1")
        .output()
        .expect("mpirun");
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success(),
        "{said}{}",
        String::from_utf8_lossy(&output.stderr)
    );
    assert!(said.contains("1 passed"), "{said}");
}
