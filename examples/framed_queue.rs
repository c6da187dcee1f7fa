//! Example stub
fn main() {}
