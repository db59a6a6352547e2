#include "eval/experiment/data_reader.h"

#include <charconv>

namespace qfid::eval {

namespace fs = std::filesystem;

fs::path resolved(const fs::path& directory, const std::string& written) {
  const fs::path path(written);
  return (path.is_absolute() ? path : directory / path).lexically_normal();
}

std::string missing(const fs::path& path, bool directory) {
  std::error_code error;
  const fs::file_type type = fs::status(path, error).type();
  if (type == (directory ? fs::file_type::directory : fs::file_type::regular)) return "";
  if (type == fs::file_type::not_found) return "doesn't exist";
  if (type == fs::file_type::none) return "can't be reached: " + error.message();
  return directory ? "isn't a directory" : "isn't a regular file";
}

std::int64_t whole(const YamlNode& node) {
  std::int64_t value = 0;
  std::from_chars(node.text.data(), node.text.data() + node.text.size(), value);
  return value;
}

namespace {

constexpr std::int64_t most_generated = std::int64_t{1} << 28;  ///< tokens: 1 GiB

class DataReader {
 public:
  DataReader(const fs::path& directory, Problems& problems) : directory_(directory), problems_(problems) {}

  DataSpec read(const YamlNode& node) {
    DataSpec& data = data_;
    if (const YamlNode* n = node.find("protocol")) data.protocol = parse_protocol(n->text);
    source(node);
    if (const YamlNode* n = node.find("batch_windows")) {
      data.batch_windows = whole(*n);
      if (data.protocol != Protocol::outlier_free)
        problems_.add(*n, "batch_windows belongs to protocol outlier_free, found " + std::string(to_string(data.protocol)));
    }
    if (const YamlNode* n = node.find("first_token")) data.first_token = whole(*n);
    if (const YamlNode* n = node.find("windows")) data.windows = whole(*n);
    if (const YamlNode* n = node.find("context")) data.context = whole(*n);
    if (const YamlNode* n = node.find("calibration")) {
      data.calibration = CalibrationSpec{whole(*n->find("first_token")), 16};
      if (const YamlNode* windows = n->find("windows")) data.calibration->windows = whole(*windows);
    }
    return std::move(data_);
  }

 private:
  fs::path data_file(const YamlNode& node, const char* what) {
    const fs::path path = resolved(directory_, node.text);
    if (const std::string problem = missing(path, false); !problem.empty())
      problems_.add(node, std::string(what) + " \"" + node.text + "\" " + problem + " (looked for " + path.string() + ")");
    return path;
  }

  /// Tokens, or text with a tokenizer.
  void source(const YamlNode& node) {
    DataSpec& data = data_;
    if (const YamlNode* n = node.find("bigram_backcopy")) return backcopy(node, *n);
    const YamlNode *tokens = node.find("tokens"), *text = node.find("text"), *tokenizer = node.find("tokenizer");
    if ((tokens == nullptr) == (text == nullptr))
      return problems_.add(node, std::string("data has ") + (text == nullptr ? "neither tokens nor" : "both tokens and") +
                                     " text, expected one of them" + (text == nullptr ? ", or bigram_backcopy" : ""));
    data.written = (text == nullptr ? tokens : text)->text;
    masked_targets(node, text);
    if (text == nullptr) {
      data.tokens = data_file(*tokens, "token file");
      if (data.protocol == Protocol::lmeval)
        problems_.add(*tokens, "protocol lmeval counts words and bytes, expected data.text and data.tokenizer");
      for (const char* key : {"tokenizer", "documents", "detokenize"})
        if (const YamlNode* n = node.find(key)) problems_.add(*n, std::string(key) + " belongs to data.text");
      return;
    }
    data.text.text = data_file(*text, "text file");
    if (tokenizer == nullptr) return problems_.add(node, "data.text without data.tokenizer, expected a tokenizer.json");
    data.text.tokenizer = data_file(*tokenizer, "tokenizer");
    data.tokenizer_written = tokenizer->text;
    if (const YamlNode* n = node.find("detokenize")) data.text.detokenize = n->text == "wikitext";
    if (const YamlNode* n = node.find("documents")) {
      data.text.documents = parse_documents(n->text);
      if (data.protocol == Protocol::llamacpp && data.text.documents != Documents::file)
        problems_.add(*n, "protocol llamacpp reads a text as one, expected documents: file");
    }
  }

  /// Generated sequences, which are windows.
  void backcopy(const YamlNode& node, const YamlNode& own) {
    for (const char* key : {"tokens", "targets", "text", "tokenizer", "documents", "detokenize", "context"})
      if (const YamlNode* n = node.find(key)) problems_.add(*n, std::string(key) + " doesn't go with bigram_backcopy");
    if (data_.protocol != Protocol::window)
      problems_.add(*node.find("protocol"),
                    "bigram_backcopy is scored under protocol window, found " + std::string(to_string(data_.protocol)));
    BackcopySource& source = data_.backcopy.emplace();
    const YamlNode& tables = *own.find("tables");
    source.tables = resolved(directory_, tables.text);
    if (const std::string problem = missing(source.tables, true); !problem.empty())
      problems_.add(
          tables, "directory of tables \"" + tables.text + "\" " + problem + " (looked for " + source.tables.string() + ")");
    if (const YamlNode* n = own.find("seed")) source.seed = whole(*n);
    if (const YamlNode* n = own.find("sequences")) source.sequences = whole(*n);
    if (const YamlNode* n = own.find("length")) source.length = whole(*n);
    if (source.sequences * source.length > most_generated)
      problems_.add(own, "bigram_backcopy of " + std::to_string(source.sequences) + " sequences of " +
                             std::to_string(source.length) + " tokens, expected " + std::to_string(most_generated) +
                             " tokens or fewer");
    data_.written = "bigram_backcopy of " + tables.text + ", seed " + std::to_string(source.seed) + ", " +
                    std::to_string(source.sequences) + " x " + std::to_string(source.length);
  }

  /// Protocol mlm has them, and no other.
  void masked_targets(const YamlNode& node, const YamlNode* text) {
    const YamlNode* targets = node.find("targets");
    const bool masked = data_.protocol == Protocol::mlm;
    if (targets != nullptr && !masked)
      problems_.add(*targets, "data.targets belongs to protocol mlm, found " + std::string(to_string(data_.protocol)));
    if (masked && text != nullptr)
      problems_.add(*text, "protocol mlm reads data.tokens and data.targets, text isn't masked here");
    if (data_.protocol == Protocol::hidden && text != nullptr)
      problems_.add(*text, "protocol hidden reads data.tokens, expected a .npy file of one or two dimensions");
    if (masked && targets == nullptr)
      problems_.add(node, "protocol mlm without data.targets, expected what stood where data.tokens is masked");
    if (targets == nullptr || !masked) return;
    data_.targets = data_file(*targets, "target file");
    data_.targets_written = targets->text;
  }

  const fs::path& directory_;
  Problems& problems_;
  DataSpec data_;
};

}  // namespace

void check_metrics(const YamlNode& metrics, Protocol protocol, Problems& problems) {
  if (protocol != Protocol::hidden) return;
  for (const char* key : {"budget_windows", "noise_windows", "interventions"})
    if (const YamlNode* node = metrics.find(key); node != nullptr && node->text != "0")
      problems.add(*node, std::string(key) + " measures by scored tokens, and protocol hidden scores none");
}

DataSpec data_from(const YamlNode& node, const fs::path& directory, Problems& problems) {
  return DataReader(directory, problems).read(node);
}

}  // namespace qfid::eval
