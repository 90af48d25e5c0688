//! A change to the process that several calls need at the same time: calls nest (a profiling library's MPI_Init calls
//! PMPI_Init) and run in several threads. The first one makes it, the last one takes it back.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

/// The change, while someone needs it. Dropping a `T` takes it back.
pub struct Nested<T>(Mutex<Weak<T>>);

/// One who needs it.
pub struct User<T: 'static> {
    of: &'static Nested<T>,
    change: Option<Arc<T>>,
}

impl<T> Nested<T> {
    /// Nobody needs it yet.
    pub const fn new() -> Nested<T> {
        Nested(Mutex::new(Weak::new()))
    }

    /// Makes the change, if it is not made.
    ///
    /// # Errors
    /// What `make` gives.
    pub fn enter<E>(&'static self, make: impl FnOnce() -> Result<T, E>) -> Result<User<T>, E> {
        let mut made = self.lock();
        let change = match made.upgrade() {
            Some(change) => change,
            None => Arc::new(make()?),
        };
        *made = Arc::downgrade(&change);
        Ok(User {
            of: self,
            change: Some(change),
        })
    }

    fn lock(&self) -> MutexGuard<'_, Weak<T>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<T> Drop for User<T> {
    fn drop(&mut self) {
        // Under the lock: the next one makes the change when this one has taken it back.
        let _others = self.of.lock();
        self.change = None;
    }
}
