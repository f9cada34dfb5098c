//! Nothing: the measurements are in `benches`, run by `./run.sh bench --host`.
