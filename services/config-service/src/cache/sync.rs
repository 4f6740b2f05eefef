//! The lock of the cache's concurrent shell. With the feature `shuttle` it is one whose interleavings the model checker
//! controls.

#[cfg(not(feature = "shuttle"))]
pub(super) use parking_lot::{Mutex, MutexGuard};
#[cfg(feature = "shuttle")]
pub(super) use shuttled::{Mutex, MutexGuard};

#[cfg(feature = "shuttle")]
mod shuttled {
    pub(in crate::cache) use shuttle::sync::MutexGuard;

    /// Shuttle's mutex with `parking_lot`'s interface.
    #[derive(Default)]
    pub(in crate::cache) struct Mutex<T>(shuttle::sync::Mutex<T>);

    impl<T> Mutex<T> {
        pub(in crate::cache) fn lock(&self) -> MutexGuard<'_, T> {
            self.0
                .lock()
                .unwrap_or_else(std::sync::PoisonError::into_inner)
        }
    }
}
