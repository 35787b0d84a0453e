//! The packet formats, pure: bytes in, values out; no thread, socket, channel, lock or clock.
