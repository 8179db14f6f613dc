//! Examples of msrnn; see the `examples` folder beside this one.
//!
//! - `plain_rnn`: an ordinary RNN is a multi-state RNN with one state
//! - `new_policy`: a compression policy of one's own, put through all laws
//! - `tensor_policy`: one in tensor code, and the whole command with it
//! - `own-command`, beside this crate: the whole command with a policy of one's own, from outside the workspace
//! - `generate`: text from a checkpoint in bounded memory
//! - `perplexity_sweep`: perplexity over states
