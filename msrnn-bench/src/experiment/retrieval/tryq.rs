use crate::{
    bundled,
    experiment::{
        Watch,
        retrieval::{haystack::Haystack, prompt::Prompt, task::Task},
    },
};
use msrnn_core::policy::Compression;
use msrnn_models::recurrent::Recurrent;
use std::sync::atomic::AtomicBool;
#[test]
#[ignore]
fn tryq() {
    let device = burn::tensor::Device::flex();
    let model = bundled::load(burn::tensor::DType::F32, &device).unwrap();
    let tok = model.tokenizer().unwrap();
    let measure = |t: &str| tok.encode(t).unwrap().len();
    let stop = AtomicBool::new(false);
    let watch = Watch { advance: &|_| {}, interrupt: &stop };
    let hay = Haystack::stories(0);
    for spec in ["full", "tova@128", "window@128", "h2o@128", "tova@64", "window@64"] {
        let spec: msrnn_policies::PolicySpec = spec.parse().unwrap();
        let c = spec.compression(1024, |_| 1).unwrap();
        let _ = Compression::Unbounded;
        let rec = Recurrent::new(&model.decoder, c, Default::default());
        for length in [512, 768, 1023] {
            for relation in 0..7u64 {
                let mut line = String::new();
                for depth in [0.0, 0.5, 1.0] {
                    let (mut exact, mut first, mut n) = (0, 0, 0);
                    for i in 0..6 {
                        let q = Task::Facts.question(0, relation + 7 * i, length, depth, &hay, &measure).unwrap();
                        if i == 0 && relation == 0 && depth == 0.5 && length == 512 && spec.is_full() {
                            println!("{}|{}", q.text, q.answer);
                        }
                        let p = Prompt::new(&q, tok).unwrap();
                        assert!(p.tokens() <= length + 8);
                        let (t, _) = p.answer(&rec, &device, &watch).unwrap();
                        exact += t.exact as usize;
                        first += (t.rank == 1) as usize;
                        n += 1;
                    }
                    line += &format!("  d{depth}: exact {exact}/{n} first {first}/{n}");
                }
                println!("{spec} {length} rel {relation}: {line}");
            }
        }
    }
}
