//! Threads that come and go, counted, so that the server can wait for the last of them.

use std::io;
use std::sync::Arc;
use std::thread;
use std::time::Instant;

use parking_lot::{Condvar, Mutex};

/// Address space for one thread's stack; only touched pages cost memory. Deep enough for JSON of serde_json's greatest
/// depth in an unoptimised build.
pub const STACK_BYTES: usize = 512 * 1024;

/// A group of threads. Cheap to clone.
#[derive(Clone, Default)]
pub struct Threads {
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    running: Mutex<usize>,
    fewer: Condvar,
}

/// Counts a thread for as long as it runs, panics included.
struct Running(Arc<Shared>);

impl Drop for Running {
    fn drop(&mut self) {
        *self.0.running.lock() -= 1;
        self.0.fewer.notify_all();
    }
}

impl Threads {
    /// Runs `work` on a new thread called `name`.
    ///
    /// # Errors
    /// When the system has no thread to give.
    pub fn spawn(&self, name: String, work: impl FnOnce() + Send + 'static) -> io::Result<()> {
        *self.shared.running.lock() += 1;
        let running = Running(self.shared.clone());
        thread::Builder::new().name(name).stack_size(STACK_BYTES).spawn(move || {
            let _running = running;
            work();
        })?;
        Ok(())
    }

    /// How many run now.
    #[must_use]
    pub fn running(&self) -> usize {
        *self.shared.running.lock()
    }

    /// Waits until none runs. `false`: some still did at `deadline`.
    pub fn wait_all(&self, deadline: Instant) -> bool {
        let mut running = self.shared.running.lock();
        while *running > 0 {
            if self.shared.fewer.wait_until(&mut running, deadline).timed_out() {
                return *running == 0;
            }
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn waits_for_the_last_one_and_counts_those_that_panic() {
        let threads = Threads::default();
        let (go, gate) = crossbeam_channel::bounded::<()>(0);
        threads
            .spawn("patient".into(), move || {
                let _ = gate.recv();
            })
            .expect("starts");
        threads.spawn("careless".into(), || std::panic::resume_unwind(Box::new("on purpose"))).expect("starts");
        assert!(!threads.wait_all(Instant::now() + Duration::from_millis(20)), "one still waits");
        drop(go);
        assert!(threads.wait_all(Instant::now() + Duration::from_secs(30)));
        assert_eq!(threads.running(), 0);
    }
}
