//! State bytes are audited: what is predicted is what states report and what is allocated for them.

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicI64, Ordering};

use burn::tensor::{DType, Device};
use msrnn_bench::speed::shape::Shape;
use msrnn_bench::throughput::plan::{Sizes, state_bytes};
use msrnn_core::policy::Layer;
use msrnn_core::state::MultiState;
use msrnn_models::recurrent::{Positions, Recurrent};
use msrnn_policies::registry;

/// The system's allocator, counting the bytes in use.
struct Counting;

static IN_USE: AtomicI64 = AtomicI64::new(0);

// SAFETY: every call goes to the system's allocator as it is.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        IN_USE.fetch_add(layout.size() as i64, Ordering::Relaxed);
        // SAFETY: the caller keeps the contract of `alloc`.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        IN_USE.fetch_sub(layout.size() as i64, Ordering::Relaxed);
        // SAFETY: the caller keeps the contract of `dealloc`.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Most that a tensor may take beside its values: shape, strides, counts, alignment.
const BESIDE: i64 = 1024;

#[test]
fn predicted_reported_and_allocated_state_bytes_are_equal() {
    let shape: Shape = "2x32x4:2x32x50".parse().unwrap();
    let device = Device::flex();
    for dtype in [DType::F32, DType::BF16] {
        let model = shape.model(0, dtype, &device);
        for name in [
            "window",
            "h2o",
            "tova",
            "tova-head",
            "int8(tova)",
            "int4(h2o, group=8, recent=7)",
            "int2(every(9, tova), keys=channel)",
            "merge(h2o, threshold=ema0.5)",
            "heads(0: tova, *: merge(merge(window), threshold=ema0.5))",
            "heads(0: tova, *: window)",
            "heads(0: int8(h2o), *: every(9, tova))",
        ] {
            let (states, batch) = (2000, 2);
            let compression = registry::compression(name, states).unwrap();
            let recurrent = Recurrent::new(&model.decoder, compression, Positions::Original);
            let before = IN_USE.load(Ordering::Relaxed);
            let all = recurrent.initial_states(batch);
            let allocated = IN_USE.load(Ordering::Relaxed) - before;

            let reported: usize = all.iter().map(MultiState::bytes).sum();
            let policy = registry::policy(name).unwrap();
            let predicted = state_bytes(&shape.config(), policy.as_ref(), states, Sizes::of(dtype, &device));
            assert_eq!(predicted * batch as u64, reported as u64, "{name}, {dtype:?}");
            let of_part = 12 + usize::from(policy.plan(&Layer::only(states)).carried(&Layer::only(states)) > 0);
            // A layer whose heads have plans of their own has tensors beside theirs.
            let parts = |state: &MultiState| state.parts().len() + usize::from(state.parts().len() > 1);
            let tensors = (all.iter().map(parts).sum::<usize>() * of_part) as i64;
            let beside = allocated - reported as i64;
            assert!((0..=tensors * BESIDE).contains(&beside), "{name}, {dtype:?}: {reported} bytes, {beside} beside");
        }
    }
}
