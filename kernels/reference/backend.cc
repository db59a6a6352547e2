#include "kernels/reference/backend.h"

#include "kernels/support_checks.h"

namespace qfid::kernels::reference {

namespace {

template <class Problem>
Support checked(const Problem& problem) {
  if (Support s = valid(problem); !s) return s;
  if (problem.mode == ExecutionMode::library) return {false, "mode library belongs to backends cpu and gpu"};
  return {};
}

}  // namespace

BackendInfo ReferenceBackend::info() const {
  return {"reference", host::cpu_model(), "portable loops", {}, host::thread_count()};
}
Support ReferenceBackend::supports(const LinearProblem& problem) const { return checked(problem); }
Support ReferenceBackend::supports(const AttentionProblem& problem) const { return checked(problem); }

std::unique_ptr<Backend> make_reference_backend() { return std::make_unique<ReferenceBackend>(); }

}  // namespace qfid::kernels::reference
