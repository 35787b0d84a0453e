//! Threads that come and go, counted, so that the server can wait for the last of them.

use std::cell::Cell;
use std::io;
use std::sync::Arc;
use std::thread;
use std::time::Instant;

use parking_lot::{Condvar, Mutex};

/// Address space for one thread's stack; only touched pages cost memory. Deep enough for JSON of serde_json's greatest
/// depth in an unoptimised build.
pub const STACK_BYTES: usize = 512 * 1024;

/// Of a stack, the part at its far end that is never given back: the guard page lies there, and somewhere the C library keeps
/// what it knows of the thread.
const STACK_END_BYTES: usize = 64 * 1024;

thread_local! {
    /// An address near the beginning of this thread's stack, if it was spawned here.
    static STACK_START: Cell<Option<usize>> = const { Cell::new(None) };
}

/// Gives the memory back to the system that deep calls have left below the caller's frame: for a thread that is about to wait
/// for long. Does nothing on threads that [`Threads::spawn`] has not made, or elsewhere than on Linux.
#[inline(never)]
pub fn release_stack() {
    /// More than the system call itself takes of the stack, red zone included.
    const MARGIN_BYTES: usize = 1024;
    let Some(start) = STACK_START.get() else { return };
    let here = 0_u8;
    // SAFETY: it has no preconditions.
    let page = usize::try_from(unsafe { libc::sysconf(libc::_SC_PAGESIZE) }).unwrap_or(STACK_BYTES);
    let from = (start - (STACK_BYTES - STACK_END_BYTES)).next_multiple_of(page);
    let to = (std::hint::black_box(&raw const here).addr() - MARGIN_BYTES) / page * page;
    if cfg!(target_os = "linux") && from < to {
        // SAFETY: from the stack's end to below this frame there is nothing but the past of this thread's own stack.
        unsafe { libc::madvise(std::ptr::without_provenance_mut(from), to - from, libc::MADV_DONTNEED) };
    }
}

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
            let running = running;
            STACK_START.set(Some((&raw const running).addr()));
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

    /// How many of the `BELOW` bytes under the caller's frame are in memory.
    #[cfg(target_os = "linux")]
    fn resident_below() -> usize {
        const BELOW: usize = 256 * 1024;
        const PAGE: usize = 4096;
        let here = 0_u8;
        let from = ((&raw const here).addr() - BELOW) / PAGE * PAGE;
        let mut pages = [0_u8; BELOW / PAGE];
        // SAFETY: one byte for each of the pages, all of which are this thread's stack.
        let asked = unsafe { libc::mincore(std::ptr::without_provenance_mut(from), BELOW, pages.as_mut_ptr()) };
        assert_eq!(asked, 0, "{}", io::Error::last_os_error());
        pages.iter().filter(|page| **page & 1 == 1).count() * PAGE
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn what_deep_calls_have_touched_is_given_back_and_what_is_in_use_stays() {
        #[inline(never)]
        fn deep(depth: u8) -> usize {
            let used = std::hint::black_box([depth; 16 * 1024]);
            let below = if depth == 0 { 0 } else { deep(depth - 1) };
            below + usize::from(used[usize::from(depth)])
        }
        let (tell, told) = crossbeam_channel::bounded(1);
        let threads = Threads::default();
        threads
            .spawn("deep".into(), move || {
                let kept = std::hint::black_box([7_u8; 16 * 1024]);
                let sum = deep(10);
                let before = resident_below();
                release_stack();
                let _ = tell.send((sum, before, resident_below(), kept.iter().all(|byte| *byte == 7), deep(10)));
            })
            .expect("starts");
        let (sum, before, after, kept, again) = told.recv().expect("it ends well");
        assert_eq!((sum, again, kept), (55, 55, true));
        assert!(before >= 10 * 16 * 1024, "{before}");
        assert!(after <= 16 * 1024, "{after} of {before}");
        // Of a stack that is not known nothing is touched.
        release_stack();
    }
}
