//! Puts the scenarios and the tables of `spec-tests` into the library, so that the one binary is all
//! that a run needs; and the compiler's version into the instruction gate, whose figures depend on it.

use std::{
    env, fs, io,
    path::{Path, PathBuf},
    process::Command,
};

fn main() -> io::Result<()> {
    let rustc =
        Command::new(env::var("RUSTC").expect("cargo sets it")).arg("--version").output()?;
    println!("cargo:rustc-env=RUSTC_VERSION={}", String::from_utf8_lossy(&rustc.stdout).trim());
    let root =
        Path::new(&env::var("CARGO_MANIFEST_DIR").expect("cargo sets it")).join("../spec-tests");
    let root = root.canonicalize()?;
    println!("cargo:rerun-if-changed={}", root.display());
    let mut found = Vec::new();
    find(&root, &mut found)?;
    found.sort();
    let mut code = String::from("&[\n");
    for path in found {
        let name = path.strip_prefix(&root).expect("found under it");
        let name = name.to_string_lossy().replace('\\', "/");
        code += &format!("    ({name:?}, include_str!({:?})),\n", path.display().to_string());
    }
    code += "]\n";
    fs::write(Path::new(&env::var("OUT_DIR").expect("cargo sets it")).join("spec_tests.rs"), code)
}

fn find(folder: &Path, found: &mut Vec<PathBuf>) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            find(&path, found)?;
        } else if path.extension().is_some_and(|extension| extension == "scn" || extension == "tsv")
        {
            found.push(path);
        }
    }
    Ok(())
}
