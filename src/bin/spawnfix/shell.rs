//! placeholder
use crate::stdio::Stdin;
use std::ffi::OsString;
pub fn shell(argv: &[OsString], stdin: Stdin) -> Option<String> {
    let name = argv.first()?.to_string_lossy().into_owned();
    let second = argv
        .get(1)
        .map(|w| w.to_string_lossy().into_owned())
        .unwrap_or_default();
    if second.ends_with("ipython") {
        return Some(second);
    }
    if argv.iter().any(|w| w == "ipykernel_launcher") {
        return Some("ipykernel_launcher".into());
    }
    (name.contains("python")
        && argv
            .iter()
            .skip(1)
            .all(|w| w.to_string_lossy().starts_with('-'))
        && stdin == Stdin::Terminal)
        .then_some(name)
}
