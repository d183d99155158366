//! `polyqueue-api-listing NAME LIB_RS`: prints the public API of the library `NAME`, whose root is `LIB_RS`.

use std::path::Path;
use std::process::ExitCode;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [name, root] = arguments.as_slice() else {
        eprintln!("usage: polyqueue-api-listing NAME LIB_RS");
        return ExitCode::from(2);
    };
    match polyqueue_api_listing::listing(name, Path::new(root)) {
        Ok(lines) => {
            lines.iter().for_each(|line| println!("{line}"));
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("polyqueue-api-listing: {error}");
            ExitCode::FAILURE
        }
    }
}
