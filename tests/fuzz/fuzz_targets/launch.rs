//! A file and its arguments, with zeroes between them, as what execvp is given.
#![no_main]

use libfuzzer_sys::fuzz_target;
use spawnfix_fuzz::mpi::launch::Launch;

fuzz_target!(|input: &[u8]| {
    let mut words = input.split(|&byte| byte == 0);
    let file = words.next().unwrap_or_default();
    let argv: Vec<&[u8]> = words.collect();
    let has = |word: &[u8]| argv.contains(&word);
    let name = file.rsplit(|&byte| byte == b'/').next().unwrap_or_default();
    let launch = Launch::recognise(file, argv.iter().copied());
    // Nothing is a launch without all of its marks; with them all, everything is.
    let mpiexec = || {
        let at = argv
            .iter()
            .skip(1)
            .take(2)
            .position(|word| *word == b"-pmi_args")?
            + 1;
        let port = std::str::from_utf8(argv.get(at + 1)?)
            .ok()?
            .parse::<u16>()
            .ok()?;
        (*argv.get(at + 2)? == b"default_interface").then_some(Launch::Mpiexec { port })
    };
    let expected = match name {
        b"mpiexec" => mpiexec(),
        b"prte" if has(b"--singleton") && has(b"--keepalive") => Some(Launch::Prte),
        b"orted" if has(b"--singleton-died-pipe") => Some(Launch::Orted),
        _ => None,
    };
    assert_eq!(launch, expected);
    if let Some(launch) = launch {
        assert_eq!(launch.name().as_bytes(), name);
    }
    // The same marks behind any other word are none.
    let other: Vec<&[u8]> = [&b"x"[..]; 3]
        .into_iter()
        .chain(argv.iter().copied())
        .collect();
    if name == b"mpiexec" {
        assert_eq!(Launch::recognise(file, other.into_iter()), None);
    }
});
