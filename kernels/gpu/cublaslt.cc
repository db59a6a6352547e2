#include "kernels/gpu/cublaslt.h"

#include <dlfcn.h>

#include "kernels/gpu/paths.h"

namespace qfid::kernels::gpu {

namespace {

struct Loaded {
  CublasLt table{};
  std::string error;
};

template <class F>
bool bind(void* library, const char* name, F& function, std::string& error) {
  function = reinterpret_cast<F>(dlsym(library, name));
  if (function == nullptr) error = std::string("libcublasLt.so.13 has no ") + name;
  return function != nullptr;
}

void bind_all(void* lib, Loaded& l) {
  CublasLt& t = l.table;
  [[maybe_unused]] const bool all =
      bind(lib, "cublasLtCreate", t.create, l.error) && bind(lib, "cublasLtDestroy", t.destroy, l.error) &&
      bind(lib, "cublasLtGetVersion", t.get_version, l.error) &&
      bind(lib, "cublasLtGetStatusString", t.status_string, l.error) && bind(lib, "cublasLtMatmul", t.matmul, l.error) &&
      bind(lib, "cublasLtMatmulDescCreate", t.desc_create, l.error) &&
      bind(lib, "cublasLtMatmulDescDestroy", t.desc_destroy, l.error) &&
      bind(lib, "cublasLtMatmulDescSetAttribute", t.desc_set, l.error) &&
      bind(lib, "cublasLtMatrixLayoutCreate", t.layout_create, l.error) &&
      bind(lib, "cublasLtMatrixLayoutDestroy", t.layout_destroy, l.error) &&
      bind(lib, "cublasLtMatrixLayoutSetAttribute", t.layout_set, l.error) &&
      bind(lib, "cublasLtMatmulPreferenceCreate", t.preference_create, l.error) &&
      bind(lib, "cublasLtMatmulPreferenceDestroy", t.preference_destroy, l.error) &&
      bind(lib, "cublasLtMatmulPreferenceSetAttribute", t.preference_set, l.error) &&
      bind(lib, "cublasLtMatmulAlgoGetHeuristic", t.heuristic, l.error) &&
      bind(lib, "cublasLtMatmulAlgoConfigGetAttribute", t.config_get, l.error);
}

Loaded load() {
  Loaded loaded;
  // By its name (the loader's paths and the program's own), then where this build found it. Never closed.
  void* library = dlopen("libcublasLt.so.13", RTLD_NOW | RTLD_LOCAL);
  const std::string built_with = std::string(cuda_library_dir()) + "/libcublasLt.so.13";
  if (library == nullptr) library = dlopen(built_with.c_str(), RTLD_NOW | RTLD_LOCAL);
  if (library == nullptr) {
    loaded.error = "libcublasLt.so.13 (CUDA 13) wasn't found on the library path nor in " + std::string(cuda_library_dir());
  } else {
    bind_all(library, loaded);
  }
  return loaded;
}

}  // namespace

const CublasLt* cublaslt(std::string* why) {
  static const Loaded loaded = load();
  if (loaded.error.empty()) return &loaded.table;
  if (why != nullptr) *why = loaded.error;
  return nullptr;
}

}  // namespace qfid::kernels::gpu
