//! An environment: variables with zeroes between them.
#![no_main]

use libfuzzer_sys::fuzz_target;
use spawnfix_fuzz::is_plain;
use spawnfix_fuzz::shared::settings::{Settings, parse};

fuzz_target!(|input: &[u8]| {
    let variables: Vec<&[u8]> = input.split(|&byte| byte == 0).collect();
    let (settings, complaints) = parse(variables.iter().copied());
    for complaint in &complaints {
        assert!(is_plain(&complaint.to_string()), "{complaint}");
    }
    if !variables
        .iter()
        .any(|variable| variable.starts_with(b"SPAWNFIX_"))
    {
        assert_eq!((&settings, complaints.len()), (&Settings::DEFAULT, 0));
    }
});
