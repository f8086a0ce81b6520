//! What the measuring tools share. They know nothing of the product: everything is measured from outside, over sockets.

pub mod arguments;
pub mod epoll;
pub mod histogram;
