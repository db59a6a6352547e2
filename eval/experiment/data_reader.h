// `data:` of a configuration, read into its spec; paths and whole numbers as all parts of it read them.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>

#include "eval/experiment/config_check.h"
#include "eval/experiment/spec.h"

namespace qfid::eval {

/// A path as written, relative to the configuration's directory.
std::filesystem::path resolved(const std::filesystem::path& directory, const std::string& written);
/// "" when `path` is a directory (or a regular file), else what is wrong with it.
std::string missing(const std::filesystem::path& path, bool directory);
/// Of a scalar that the key table has checked.
std::int64_t whole(const YamlNode& node);

/// `node`: what stands under `data`, its keys checked.
DataSpec data_from(const YamlNode& node, const std::filesystem::path& directory, Problems& problems);
/// Refuses metrics that score tokens under a protocol that scores none.
void check_metrics(const YamlNode& metrics, Protocol protocol, Problems& problems);

}  // namespace qfid::eval
