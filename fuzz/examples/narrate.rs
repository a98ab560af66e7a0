//! Prints the packets that an input of `choices` or `operations` leads to:
//! `cargo run -p fuzz --example narrate choices FILE`.

use std::{env, error::Error, fs};

#[allow(clippy::print_stdout, reason = "it is a command")]
fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<_> = env::args().skip(1).collect();
    let [target, file] = &arguments[..] else {
        return Err("usage: narrate choices|operations FILE".into());
    };
    for line in fuzz::narrate(target, &fs::read(file)?) {
        println!("{line}");
    }
    Ok(())
}
