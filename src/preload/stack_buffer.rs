//! Text on the stack: a forked child may not allocate.

use std::ffi::CStr;
use std::fmt;

/// At most this many bytes. What does not fit is cut.
pub struct StackBuffer<const SIZE: usize> {
    bytes: [u8; SIZE],
    used: usize,
}

impl<const SIZE: usize> StackBuffer<SIZE> {
    /// An empty one.
    pub const fn new() -> StackBuffer<SIZE> {
        StackBuffer {
            bytes: [0; SIZE],
            used: 0,
        }
    }

    /// What is in it.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes[..self.used]
    }

    /// The whole of it, for a system call that fills it: [`StackBuffer::keep`] says how much.
    #[cfg(target_vendor = "apple")]
    pub fn space(&mut self) -> &mut [u8] {
        &mut self.bytes
    }

    /// Leaves only this part of it.
    pub fn keep(&mut self, range: std::ops::Range<usize>) {
        self.used = range.len();
        self.bytes.copy_within(range, 0);
    }

    /// Puts this at its end. `None`: it was cut.
    pub fn append(&mut self, bytes: &[u8]) -> Option<()> {
        let taken = bytes.len().min(SIZE - self.used);
        self.bytes[self.used..self.used + taken].copy_from_slice(&bytes[..taken]);
        self.used += taken;
        (taken == bytes.len()).then_some(())
    }

    /// As a C string. `None`: there is no room for its end, or it has a zero in it.
    pub fn c_str(&mut self) -> Option<&CStr> {
        *self.bytes.get_mut(self.used)? = 0;
        CStr::from_bytes_with_nul(&self.bytes[..=self.used]).ok()
    }
}

impl<const SIZE: usize> fmt::Write for StackBuffer<SIZE> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.append(text.as_bytes()).ok_or(fmt::Error)
    }
}
