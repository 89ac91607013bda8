//! Work that runs with the widest vectors that the processor has and the crate makes use of.

/// Runs `work`, whose `call` and all that it calls have to be inlined: a closure would not be.
pub(super) fn wide<W: pulp::NullaryFnOnce>(work: W) -> W::Output {
    #[cfg(target_arch = "x86_64")]
    if let Some(kernel) = pulp::x86::V3::try_new() {
        return pulp::Simd::vectorize(kernel, work);
    }
    work.call()
}
