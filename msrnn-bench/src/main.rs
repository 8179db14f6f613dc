//! msrnn
fn main() {
    let c = msrnn_bench::train::TrainConfig::default();
    let a: Vec<String> = std::env::args().collect();
    let device = burn::tensor::Device::flex();
    msrnn_bench::train::train(&c, std::path::Path::new(&a[1]), &device, |l| println!("{}", serde_json::to_string(l).unwrap())).unwrap();
}
