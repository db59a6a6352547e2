// The list of linked backends. An absent backend is in the list too: it answers available() with its reason.
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "kernels/backend.h"

namespace qfid::kernels {

/// "reference", "cpu", "gpu": every name that may stand in a configuration.
std::vector<std::string_view> backend_names();
/// Error{usage} for an unknown name. The backend may be unavailable(): ask it. device: which GPU, for "gpu".
std::unique_ptr<Backend> make_backend(std::string_view name, int device = 0);
/// OpenMP threads of every backend on the host from now on; n >= 1.
void set_threads(int n);

}  // namespace qfid::kernels
