//! msrnn-policies
