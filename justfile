# What is done often. `just` lists it.
default:
    @just --list

# The fast way through the tests.
test:
    cargo nextest run

# What CI does.
ci:
    .ci/run

lint:
    cargo fmt --all --check
    cargo clippy --workspace --all-targets -- -D warnings

# The kernel's overlayfs as oracle, longer than usual.
oracle ops="200000" seed="1":
    STRATAFS_ORACLE_OPS={{ops}} STRATAFS_SEED={{seed}} cargo test --release -p stratafs-tests --test oracle_kernel -- --nocapture

bench:
    cargo bench -p stratafs-benches
