//! `make microbench`: each stage of the data path by itself, on bytes of the lab's small guest, in CPU time.
//!
//! A rate here is bytes for each CPU second of all threads of this process, so that it holds on a busy machine too.
//! criterion compares with the run before and says what became slower or faster.

mod chunk;
mod content;
mod cpu;
mod pack;
mod tree;
mod wire;

use criterion::Criterion;

fn main() {
    let mut criterion = Criterion::default()
        .with_measurement(cpu::CpuTime)
        .sample_size(20)
        .noise_threshold(0.1)
        .configure_from_args();
    let content = content::Content::of_guest();
    chunk::bench(&mut criterion, &content);
    tree::bench(&mut criterion);
    pack::bench(&mut criterion, &content);
    wire::bench(&mut criterion, &content);
    criterion.final_summary();
}
