//! What can be wrong with a state or its bound; every message says the remedy.

/// An error of this crate.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum Error {
    /// A bound below what the policy needs.
    #[error("policy {policy} needs at least {needed} states, not {states}; give {policy}@{needed} or more")]
    TooFewStates {
        /// The policy.
        policy: String,
        /// What was asked for.
        states: usize,
        /// What it needs.
        needed: usize,
    },
    /// A budget that does not make one state.
    #[error(
        "a budget of {budget} makes no state, of {bytes_per_state} bytes each and {beside} beside all of them, in a context of {context} tokens; {}",
        for_a_state(*.beside, *.bytes_per_state)
    )]
    EmptyBudget {
        /// As written.
        budget: String,
        /// Bytes that one state takes in all layers.
        bytes_per_state: usize,
        /// Bytes beside all states: of rows that are whole beside packed ones, of queries that a rule looks at, and of counters.
        beside: usize,
        /// Tokens of a context.
        context: usize,
    },
    /// A budget that can never be reached.
    #[error(
        "a budget of {budget} is {states} states, more than a context of {context} tokens can fill: nothing would ever be omitted; give at most {context} states, or take the policy full"
    )]
    BeyondContext {
        /// As written.
        budget: String,
        /// What it comes to.
        states: usize,
        /// Tokens of a context.
        context: usize,
    },
    /// A budget that cannot be read.
    #[error("{0:?} is no budget; write a number of states (512), a share of the context (25%) or bytes (64MiB)")]
    Budget(String),
    /// A ceiling where nothing can tell it what comes.
    #[error(
        "{0} is a ceiling and no policy: it is told what the rest of a text attends to, which is known where a given text is scored alone; use it with msrnn compare or experiment lm, or take a policy"
    )]
    Foresight(String),
    /// A saved state that does not belong here.
    #[error("the saved state does not fit: {0}; use it with the model and policy that it was saved under")]
    Snapshot(String),
    /// A policy whose score of a row that may have to go is not a number.
    #[error(
        "policy {policy} scored the row of position {position} in layer {layer} with NaN at token {token} of batch row {row}: there is no lowest score, so no row can go; correct the policy (+∞ protects a row, NaN is not allowed)"
    )]
    NoScore {
        /// The policy.
        policy: String,
        /// Which layer of the stack, from 0.
        layer: usize,
        /// Of the row that was scored.
        position: usize,
        /// Position of the token that had to make a row go.
        token: usize,
        /// Batch row.
        row: usize,
    },
    /// A score that refers to what it does not remember.
    #[error(
        "the score uses {0:?}, which is neither known of a row nor remembered; write an update of it first, as in \"m = m + weight; keep m\""
    )]
    NotRemembered(String),
    /// A score that remembers two things under one name.
    #[error("the score remembers two things as {0:?}; give each a name of its own")]
    RememberedTwice(String),
    /// A score that looks at the head where the layer decides.
    #[error(
        "the score of policy {0} looks at the head, but one decision is for all heads; let each decide, as in \"score(..; per head)\""
    )]
    HeadOfLayer(String),
    /// A policy that would cut at no token.
    #[error("policy {0} cuts every 0 tokens; give 1, for every token, or more")]
    EveryNoTokens(String),
    /// Heads that would compete for one row.
    #[error(
        "in {0} the heads compete for the rows that stay, and at every token only one row of each goes; cut less often, as in every(128, ..), or once, as in after-prompt(..)"
    )]
    PooledEveryToken(String),
    /// Heads with plans of their own that would do what only a whole layer does.
    #[error(
        "in {0} KV heads have policies of their own, which can neither compete, nor number rows anew, nor have heads in turn; put pooled(..) elsewhere, and in-state(..) around the whole"
    )]
    Heads(String),
    /// A layer, or a head, that the model has not.
    #[error("{policy} names {one} {index}, and there are {there}, counted from 0; name those that there are")]
    NotThere {
        /// Its name.
        policy: String,
        /// Of which kind.
        one: &'static str,
        /// Counted from 0.
        index: usize,
        /// How many there are.
        there: usize,
    },
    /// A share that is none.
    #[error("in {0} every head keeps a share of the states at least; give a floor from 0 to 1")]
    Floor(String),
    /// Groups that cannot be.
    #[error(
        "in {0} groups of numbers do not fit into what is packed at once; give a group of 1 or more, and for keys per channel a number of rows that is a multiple of it"
    )]
    PackedGroups(String),
    /// Keys that share scales with rows that go at every token.
    #[error(
        "in {0} keys would share scales with the rows beside them, of which one goes at every token; pack them per token, with keys=token, or cut less often, as in every(128, ..)"
    )]
    PackedEveryToken(String),
    /// Keys that share scales with rows that change.
    #[error(
        "in {0} keys would share scales with the rows beside them, and others are merged into them; pack them per token, with keys=token"
    )]
    PackedRewritten(String),
    /// Every row is to be held under a policy that makes rows go.
    #[error("policy {0} makes rows go and needs a number of states; write {0}@512")]
    NotHeld(String),
    /// A prefill into a state that has already seen tokens.
    #[error("a prefill starts from an empty state, but {0} tokens were seen; use a fresh state or the strict protocol")]
    PrefillNotFirst(usize),
}

fn for_a_state(beside: usize, each: usize) -> &'static str {
    match beside > each {
        false => "give at least one state",
        true => {
            "give more, or keep less beside rows: fewer that are whole, as in int4(.., group=8, recent=0), or fewer queries, as in snapkv(window=8)"
        }
    }
}
