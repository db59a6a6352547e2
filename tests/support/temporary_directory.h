// A fresh directory for one test, removed with it; and the outcome of something expected to fail.
#pragma once

#include <stdlib.h>

#include <filesystem>
#include <fstream>
#include <iterator>
#include <stdexcept>
#include <string>
#include <string_view>

#include "quant/core/error.h"

namespace qfid::tests {

inline std::string read_file(const std::filesystem::path& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

/// Every occurrence of `from` in `text` replaced.
inline std::string replaced(std::string text, std::string_view from, std::string_view to) {
  for (std::size_t at = 0; (at = text.find(from, at)) != std::string::npos; at += to.size())
    text.replace(at, from.size(), to);
  return text;
}

class TemporaryDirectory {
 public:
  TemporaryDirectory() {
    std::string name = (std::filesystem::temp_directory_path() / "qfid-test-XXXXXX").string();
    if (mkdtemp(name.data()) == nullptr) throw std::runtime_error("can't make " + name);
    path_ = name;
  }
  TemporaryDirectory(const TemporaryDirectory&) = delete;
  TemporaryDirectory& operator=(const TemporaryDirectory&) = delete;
  ~TemporaryDirectory() {
    std::error_code error;
    std::filesystem::remove_all(path_, error);
  }

  const std::filesystem::path& path() const { return path_; }
  /// Path of a new file of this content; directories on the way are made.
  std::filesystem::path write(const std::string& name, std::string_view content) const {
    const std::filesystem::path path = path_ / name;
    std::filesystem::create_directories(path.parent_path());
    std::ofstream(path, std::ios::binary) << content;
    return path;
  }
  /// `text` with this directory written as DIR.
  std::string shown(const std::string& text) const { return replaced(text, path_.string(), "DIR"); }

 private:
  std::filesystem::path path_;
};

struct Failure {
  int code = 0;  ///< 0: it didn't fail
  std::string message;
};

template <class Work>
Failure failure_of(Work&& work) {
  try {
    work();
  } catch (const quant::Error& error) { return {error.exit_code(), error.what()}; }
  return {};
}

}  // namespace qfid::tests
