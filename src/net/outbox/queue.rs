//! The bytes that wait for one client, in order.

use std::collections::VecDeque;
use std::sync::Arc;

use crate::proto::engineio::PayloadBuilder;
use crate::proto::frames::{Frames, Payload};

/// A part of what was pushed at once.
#[derive(Clone)]
pub(super) struct Piece {
    frames: Arc<Frames>,
    /// So many bytes of it are sent.
    sent: usize,
    /// So many of its bytes are to be sent.
    end: usize,
}

impl Piece {
    /// All of it.
    pub fn whole(frames: &Arc<Frames>) -> Piece {
        Piece { frames: frames.clone(), sent: 0, end: frames.bytes().len() }
    }

    /// What is still to be sent.
    pub fn rest(&self) -> &[u8] {
        &self.frames.bytes()[self.sent..self.end]
    }

    /// So many bytes more are sent.
    pub fn advance(&mut self, count: usize) {
        self.sent += count;
    }
}

/// See the module.
#[derive(Default)]
pub(super) struct Queue {
    pieces: VecDeque<Piece>,
    /// What is still to be sent of all of them.
    bytes: usize,
}

impl Queue {
    pub fn is_empty(&self) -> bool {
        self.pieces.is_empty()
    }

    /// What is still to be sent.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    pub fn push(&mut self, piece: Piece) {
        self.bytes += piece.rest().len();
        self.pieces.push_back(piece);
    }

    pub fn clear(&mut self) {
        (self.pieces, self.bytes) = (VecDeque::new(), 0);
    }

    /// The pieces from the front.
    pub fn iter(&self) -> impl Iterator<Item = &Piece> {
        self.pieces.iter()
    }

    /// Takes all.
    pub fn take(&mut self) -> impl Iterator<Item = Piece> + use<> {
        std::mem::take(self).pieces.into_iter()
    }

    /// So many bytes were sent.
    pub fn advance(&mut self, mut count: usize) {
        self.bytes = self.bytes.saturating_sub(count);
        while let Some(first) = self.pieces.front_mut() {
            let left = first.rest().len();
            if count < left {
                return first.advance(count);
            }
            count -= left;
            self.pieces.pop_front();
        }
    }

    /// Drops all but what the kernel may be taking just now, `in_flight` pieces, or at least the frame of which it has a
    /// part already.
    pub fn cut(&mut self, in_flight: usize) {
        self.pieces.truncate(in_flight.max(1));
        if in_flight == 0
            && let Some(first) = self.pieces.front_mut()
        {
            first.end = first.frames.frame_end(first.sent);
        }
        self.bytes = self.pieces.iter().map(|piece| piece.rest().len()).sum();
    }

    /// As many whole packets as fit into one payload, and always one.
    pub fn take_payload(&mut self, bytes_max: usize) -> String {
        let mut payload = PayloadBuilder::new(bytes_max);
        while let Some(first) = self.pieces.front_mut() {
            let fits = match first.frames.payload(first.sent) {
                Some(Payload::Text(packet)) => payload.push_text(packet),
                Some(Payload::Binary(bytes)) => payload.push_binary(bytes),
                None => true,
            };
            if !fits {
                break;
            }
            let next = first.frames.next(first.sent);
            self.bytes = self.bytes.saturating_sub(next - first.sent);
            first.sent = next;
            if first.sent >= first.end {
                self.pieces.pop_front();
            }
        }
        payload.finish()
    }
}
