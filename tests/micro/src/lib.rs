//! Nothing but benchmarks: what each stage of the data path costs, in CPU time of the process.
