//! Draws a run's plot on a thread of its own.

use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

use openclip_data::error::panic_message;
use openclip_model::panics;

use super::append::News;
use super::history::History;
use crate::TrainError;

/// The plot of a run under way.
#[derive(Debug)]
pub struct Drawer {
    shared: Arc<Mutex<Shared>>,
    wake: Option<SyncSender<()>>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug, Default)]
struct Shared {
    history: History,
    failing: bool,
    news: Option<News>,
}

impl Drawer {
    /// Draws `history` and what it grows by at `path`, under this title and name of the loss.
    ///
    /// # Errors
    /// When there is no thread to be had.
    pub fn start(
        path: PathBuf,
        history: History,
        title: String,
        loss: String,
    ) -> Result<Self, TrainError> {
        let shared = Shared {
            history,
            ..Shared::default()
        };
        let shared = Arc::new(Mutex::new(shared));
        let (wake, woken) = sync_channel(1);
        let thread = {
            let (shared, path) = (Arc::clone(&shared), path.clone());
            let draw = move || draw(&shared, &woken, &path, &title, &loss);
            std::thread::Builder::new().name("plot".into()).spawn(draw)
        };
        let thread = thread.map_err(|source| TrainError::Write { path, source })?;
        Ok(Self {
            shared,
            wake: Some(wake),
            thread: Some(thread),
        })
    }

    /// Lets the history grow.
    pub fn add(&self, add: impl FnOnce(&mut History)) {
        add(&mut lock(&self.shared).history);
    }

    /// Asks for a new picture; one that is being drawn is enough for now.
    pub fn draw(&self) {
        let _ = self.wake.as_ref().map(|wake| wake.try_send(()));
    }

    /// Whether pictures have become possible or impossible since the last call.
    pub fn news(&self) -> Option<News> {
        lock(&self.shared).news.take()
    }

    /// Draws the last picture, if any was asked for.
    pub fn finish(&mut self) -> Option<News> {
        self.wake = None;
        // A panic in it has been told of.
        let _ = self.thread.take().map(JoinHandle::join);
        self.news()
    }
}

impl Drop for Drawer {
    fn drop(&mut self) {
        self.finish();
    }
}

fn lock(shared: &Mutex<Shared>) -> MutexGuard<'_, Shared> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

fn draw(shared: &Mutex<Shared>, woken: &Receiver<()>, path: &Path, title: &str, loss: &str) {
    let (mut asked, mut over) = (false, false);
    while !over {
        over = woken.recv().is_err();
        asked |= !over;
        if !asked {
            break;
        }
        let history = lock(shared).history.clone();
        let write = || history.plot(title, loss).write_svg(path);
        let drawn = panics::caught(write).unwrap_or_else(|panic| {
            let source = std::io::Error::other(panic_message(panic.as_ref()));
            let path = path.to_owned();
            Err(TrainError::Write { path, source })
        });
        let mut shared = lock(shared);
        match (drawn, shared.failing) {
            (Ok(()), true) => {
                let path = path.to_owned();
                shared.news = Some(News::Mended { path, lost: 0 });
                shared.failing = false;
            }
            (Err(error), false) => {
                shared.news = Some(News::Failed(error));
                shared.failing = true;
            }
            _ => {}
        }
    }
}
