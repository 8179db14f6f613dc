//! `msrnn generate --prompts`

use indicatif::ProgressBar;
use msrnn_bench::error::BenchError;
use msrnn_bench::input::read_text;
use msrnn_bench::writing::requests::{Chat, Defaults, Results, read, run as write};
use msrnn_core::budget::Budget;
use msrnn_models::Model;
use msrnn_models::chat::ChatTemplate;
use msrnn_models::protocol::Protocol;
use msrnn_models::recurrent::Recurrent;

use super::generate::Args;
use super::streams::remark;
use super::writing::{identity, now};
use super::{INTERRUPT, Outcome};

pub(super) fn run(args: &Args, model: &Model, template: Option<&ChatTemplate>) -> Result<Outcome, BenchError> {
    let (Some(file), Some(out)) = (&args.prompts, &args.out) else { return Ok(Outcome::Done) };
    if args.run.protocol != Protocol::Strict {
        return Err(BenchError::Input(
            "--prompts are read token by token, side by side; leave --protocol out, or give one --prompt".into(),
        ));
    }
    let chat = template.map(|template| Chat { template, system: args.chat.system.clone(), now: now() });
    let defaults = Defaults {
        sampling: args.draw.sampling(args.run.seed),
        max_new_tokens: args.draw.max_new_tokens,
        stop: args.draw.stop.clone(),
        chat,
    };
    let asked = read(&read_text(file)?, file, model.tokenizer()?, &defaults)?;
    let context = args.run.context(model)?;
    let spec = args.policy.spec(args.run.seed)?;
    if matches!(spec.budget(), Some(Budget::Percent(_))) && args.run.context.is_none() {
        return Err(BenchError::Input(
            "of many prompts a bound in percent is a share of --context; give that, or a number of states".into(),
        ));
    }
    let longest = asked.iter().map(|one| one.prompt.len().saturating_add(one.max_new_tokens)).max().unwrap_or(0);
    let compression = args.policy.compression(&spec, context.max(longest), model)?;
    args.run.check_length(model, "a text (prompt and new tokens)", longest, 0, &compression)?;
    msrnn_bench::room::check(&model.decoder, &compression, longest, args.batch.min(asked.len()))?;
    let identity = identity(&args.model, &compression, args.run.positions)?;
    let mut results = Results::open(out)?;
    let all = asked.len();
    let left = results.left(asked, &identity)?;
    if left.len() < all {
        remark(&format!("{} of {all} prompts were finished before", all - left.len()));
    }
    let recurrent = Recurrent::new(&model.decoder, compression, args.run.positions).with_capture(args.capture());
    let bar = ProgressBar::new(left.len() as u64);
    let finished = write((model, recurrent, &identity), &left, args.batch, &mut results, &INTERRUPT, || bar.inc(1))?;
    bar.finish_and_clear();
    results.finish()?;
    remark(&format!("{finished} of {} prompts continued, {}", left.len(), out.display()));
    Ok(if finished == left.len() { Outcome::Done } else { Outcome::Interrupted })
}
