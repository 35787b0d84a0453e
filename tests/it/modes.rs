//! Both modes behind the one interface.
