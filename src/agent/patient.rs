//! Reading, writing and opening that outlast an error which passes. Where the agent hung up for one, libmpi would
//! crash.

use std::io::{self, Read, Write};
use std::thread;
use std::time::Duration;

/// How often something is tried, and how long it rests in between.
const TRIES: usize = 3;
const REST: Duration = Duration::from_millis(10);

/// Errors that may pass. A connection that is reset says so once, and then that it has ended. EAGAIN is not among them:
/// on a blocking socket it says that a time limit was reached.
pub fn passes(error: &io::Error) -> bool {
    let passing = [libc::EINTR, libc::ENOMEM, libc::ENOBUFS, libc::ECONNRESET];
    error
        .raw_os_error()
        .is_some_and(|errno| passing.contains(&errno))
}

/// Tries a system call again where it failed for a moment.
pub fn patiently<T>(mut act: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    for _ in 1..TRIES {
        match act() {
            Err(error) if passes(&error) => thread::sleep(REST),
            result => return result,
        }
    }
    act()
}

/// From a blocking stream.
pub fn read(from: &mut impl Read, buffer: &mut [u8]) -> io::Result<usize> {
    patiently(|| from.read(buffer))
}

/// As many bytes as there is room for, from a blocking stream.
pub fn read_exact(from: &mut impl Read, mut buffer: &mut [u8]) -> io::Result<()> {
    while !buffer.is_empty() {
        match read(from, buffer)? {
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            count => buffer = &mut buffer[count..],
        }
    }
    Ok(())
}

/// All of it, into a blocking stream.
pub fn write_all(to: &mut impl Write, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        match patiently(|| to.write(bytes))? {
            0 => return Err(io::ErrorKind::WriteZero.into()),
            count => bytes = &bytes[count..],
        }
    }
    Ok(())
}

/// What every program needs a descriptor or memory for: tried for as long as it may come to something.
pub fn open<T>(
    mut act: impl FnMut() -> io::Result<T>,
    mut goes_on: impl FnMut() -> bool,
) -> io::Result<T> {
    const LONGER: Duration = Duration::from_millis(100);
    let mut tries = 0;
    loop {
        match act() {
            Err(error) if error.kind() != io::ErrorKind::ConnectionRefused && goes_on() => {
                tries += 1;
                if tries == TRIES {
                    log::error!(
                        "the program can't be served: {error}; this is tried for as long as it lives"
                    );
                }
                thread::sleep(if tries < TRIES { REST } else { LONGER });
            }
            result => return result,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Fails so often, with this errno, then takes or gives one byte at a time.
    struct Flaky(usize, i32, Vec<u8>);

    impl Flaky {
        fn fail(&mut self) -> io::Result<()> {
            if self.0 == 0 {
                return Ok(());
            }
            self.0 -= 1;
            Err(io::Error::from_raw_os_error(self.1))
        }
    }

    impl Write for Flaky {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.fail()?;
            self.2.push(bytes[0]);
            Ok(1)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    impl Read for Flaky {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            self.fail()?;
            buffer[0] = b'x';
            Ok(1)
        }
    }

    #[test]
    fn an_error_that_passes_is_outlasted_and_another_is_not() {
        for errno in [libc::EINTR, libc::ENOMEM, libc::ENOBUFS, libc::ECONNRESET] {
            let mut flaky = Flaky(2, errno, Vec::new());
            write_all(&mut flaky, b"abc").unwrap();
            assert_eq!(flaky.2, b"abc");
            assert_eq!(read(&mut Flaky(2, errno, Vec::new()), &mut [0]).unwrap(), 1);
            assert!(read(&mut Flaky(3, errno, Vec::new()), &mut [0]).is_err());
        }
        assert!(write_all(&mut Flaky(1, libc::EPIPE, Vec::new()), b"a").is_err());
        assert!(write_all(&mut Flaky(1, libc::EAGAIN, Vec::new()), b"a").is_err());
        assert!(read(&mut Flaky(1, libc::EIO, Vec::new()), &mut [0]).is_err());
    }
}
