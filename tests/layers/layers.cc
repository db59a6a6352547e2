#include "tests/layers/layers.h"

#include <algorithm>
#include <filesystem>
#include <format>
#include <fstream>
#include <functional>
#include <regex>
#include <sstream>

namespace qfid::tests {

namespace fs = std::filesystem;

namespace {

/// Headers of packages: who may include them links the package, and lives where the house wants it ("" = wherever it links).
struct Package {
  const char* header;  ///< prefix
  const char* target;  ///< part of the name CMake links
  const char* home;    ///< prefix of the file's path
};
constexpr Package packages[] = {
    {"oneapi/dnnl/", "DNNL::dnnl", "kernels/cpu/"},
    {"dnnl", "DNNL::dnnl", "kernels/cpu/"},
    {"cuda", "CUDA::", "kernels/gpu/"},
    {"cublas", "CUDA::", "kernels/gpu/"},
    {"omp.h", "OpenMP::", "kernels/"},
    {"nlohmann/", "nlohmann_json::", "eval/"},
    {"yaml-cpp/", "yaml-cpp::", "eval/experiment/yaml_tree"},
    {"CLI/", "CLI11::", "eval/cli/"},
    {"mpi.h", "MPI::", "eval/mpi/post"},
    {"xxhash.h", "xxHash::", "eval/"},
    {"pcre2.h", "PCRE2::", "eval/data/unicode_regex"},
    {"pugixml.hpp", "pugixml::", "eval/report/junit"},
};
/// The system's headers that aren't C++'s own.
constexpr const char* system_headers[] = {"unistd.h", "fcntl.h", "poll.h", "malloc.h", "sys/", "immintrin.h", "dlfcn.h"};

constexpr int most_lines = 400;
/// A longer file says why in a comment with these words.
constexpr const char* long_reason = "Longer than 400 lines because";

std::string folder_of(const std::string& path) {
  const std::size_t slash = path.rfind('/');
  return slash == std::string::npos ? "" : path.substr(0, slash);
}

std::string joined(const std::set<std::string>& names) {
  std::string text;
  for (const std::string& name : names) text += (text.empty() ? "" : ", ") + name;
  return text.empty() ? "nothing" : text;
}

/// All a folder may see below itself.
std::set<std::string> reachable(const Floors& floors, const std::string& folder) {
  std::set<std::string> seen;
  const std::function<void(const std::string&)> visit = [&](const std::string& name) {
    const auto floor = floors.find(name);
    if (floor == floors.end()) return;
    for (const std::string& next : floor->second.depends)
      if (seen.insert(next).second) visit(next);
  };
  visit(folder);
  return seen;
}

bool is_header(const std::string& path) { return path.ends_with(".h") || path.ends_with(".cuh"); }

/// One file against the floors.
class File {
 public:
  File(const Floors& floors, const Sources& sources, std::string path, std::vector<std::string>& faults)
      : floors_(floors), sources_(sources), path_(std::move(path)), folder_(folder_of(path_)), faults_(faults) {}

  void check() {
    const auto floor = floors_.find(folder_);
    if (floor == floors_.end()) return fault("its folder is no floor: name it in CMakeLists.txt (qfid_library)");
    below_ = reachable(floors_, folder_);
    const std::string& text = sources_.at(path_);
    std::istringstream lines(text);
    for (std::string line; std::getline(lines, line);) {
      ++line_;
      check_line(line, floor->second);
    }
    if (line_ >= most_lines && text.find(long_reason) == std::string::npos)
      fault(std::format("{} lines; below {}, or a comment says \"{} ...\"", line_, most_lines, long_reason));
    line_ = 0;
    if (!namespace_seen_ && !path_.ends_with("/main.cc")) fault("opens no namespace; expected " + namespace_name());
    if (is_header(path_) && text.find("#pragma once") == std::string::npos) fault("a header without #pragma once");
  }

 private:
  void fault(const std::string& what) {
    faults_.push_back(path_ + (line_ ? ":" + std::to_string(line_) : "") + ": " + what);
  }

  std::string namespace_name() const {
    return "qfid::" + std::regex_replace(folder_, std::regex("/"), "::") + " or a part of it from the left";
  }

  void check_line(const std::string& line, const Floor& floor) {
    static const std::regex own("^\\s*#\\s*include\\s*\"([^\"]+)\".*"), other("^\\s*#\\s*include\\s*<([^>]+)>.*"),
        condition("^\\s*#\\s*(if|ifdef|ifndef|elif|else)\\b.*"), opened("^\\s*(inline )?namespace (qfid[a-z_:]*) *\\{?.*"),
        alias("^\\s*using namespace .*");
    std::smatch found;
    if (std::regex_match(line, found, own)) check_own(found[1]);
    if (std::regex_match(line, found, other)) check_other(found[1], floor);
    if (std::regex_match(line, condition)) fault("a preprocessor branch; CMake chooses between files instead");
    if (std::regex_match(line, found, opened)) check_namespace(found[2]);
    if (is_header(path_) && std::regex_match(line, alias)) fault("a header with `using namespace`");
  }

  void check_own(const std::string& included) {
    if (!sources_.contains(included))
      return fault("includes \"" + included + "\", no file of the project (paths start at its root)");
    const std::string target = folder_of(included);
    if (target == folder_ || below_.contains(target)) return;
    fault("includes \"" + included + "\" of " + target + "; " + folder_ + " may see only " + joined(below_));
  }

  void check_other(const std::string& header, const Floor& floor) {
    if (header.find_first_of("./") == std::string::npos) return;  // C++'s own
    for (const char* prefix : system_headers)
      if (header.starts_with(prefix)) return;
    for (const Package& package : packages) {
      if (!header.starts_with(package.header)) continue;
      if (!path_.starts_with(package.home)) return fault("includes <" + header + ">, allowed only in " + package.home + "*");
      const bool linked = std::any_of(floor.packages.begin(), floor.packages.end(), [&](const std::string& name) {
        return name.find(package.target) != std::string::npos;
      });
      if (!linked) fault("includes <" + header + ">, but CMakeLists.txt doesn't link " + package.target + " to " + folder_);
      return;
    }
    fault("includes <" + header + ">, of no package known to tests/layers/layers.cc");
  }

  /// qfid::kernels::cpu in kernels/cpu, or qfid::kernels; never less than the first folder.
  void check_namespace(const std::string& name) {
    namespace_seen_ = true;
    const std::string full = "qfid::" + std::regex_replace(folder_, std::regex("/"), "::");
    if (name != "qfid" && (full + "::").starts_with(name + "::")) return;
    fault("opens namespace " + name + "; expected " + namespace_name());
  }

  const Floors& floors_;
  const Sources& sources_;
  std::string path_, folder_;
  std::vector<std::string>& faults_;
  std::set<std::string> below_;
  int line_ = 0;
  bool namespace_seen_ = false;
};

}  // namespace

Floors read_floors(const std::string& text) {
  Floors floors;
  std::istringstream lines(text);
  for (std::string line; std::getline(lines, line);) {
    std::istringstream words(line);
    std::string folder, word;
    if (!(words >> folder)) continue;
    folder.pop_back();  // the colon
    Floor& floor = floors[folder];
    bool linked = false;
    while (words >> word) {
      if (word == "|")
        linked = true;
      else if (linked)
        floor.packages.push_back(word);
      else
        floor.depends.insert(word);
    }
  }
  return floors;
}

std::vector<std::string> floor_faults(const Floors& floors) {
  std::vector<std::string> faults;
  for (const auto& [folder, floor] : floors) {
    for (const std::string& name : floor.depends)
      if (!floors.contains(name)) faults.push_back(folder + " depends on " + name + ", which is no floor");
    if (reachable(floors, folder).contains(folder)) faults.push_back(folder + " depends on itself by way of others");
  }
  return faults;
}

std::vector<std::string> source_faults(const Floors& floors, const Sources& sources) {
  std::vector<std::string> faults;
  for (const auto& entry : sources) File(floors, sources, entry.first, faults).check();
  return faults;
}

Sources read_sources(const std::string& project, const std::vector<std::string>& folders) {
  static const std::set<std::string> kinds{".h", ".cc", ".cu", ".cuh"};
  Sources sources;
  for (const std::string& folder : folders)
    for (const fs::directory_entry& entry : fs::recursive_directory_iterator(fs::path(project) / folder)) {
      if (!entry.is_regular_file() || !kinds.contains(entry.path().extension().string())) continue;
      std::ifstream file(entry.path(), std::ios::binary);
      std::ostringstream text;
      text << file.rdbuf();
      sources[fs::relative(entry.path(), project).generic_string()] = text.str();
    }
  return sources;
}

}  // namespace qfid::tests
