#include "eval/experiment/identity.h"

#include <filesystem>
#include <format>
#include <span>

#include "eval/model/checkpoint.h"

namespace qfid::eval {

namespace {

template <class Named>
std::string names_of(const std::vector<Named>& all) {
  std::string names;
  for (const Named& one : all) names += (names.empty() ? "" : " ") + one.name;
  return names;
}

std::string lines_of(const std::vector<std::string>& all) {
  std::string lines;
  for (const std::string& line : all) lines += (lines.empty() ? "" : ", ") + line;
  return lines;
}

}  // namespace

std::string corpus_hash(const DataSpec& data, const Corpus& corpus) {
  if (corpus.row > 0)
    return bytes_hash({std::as_bytes(std::span(corpus.tokens)), std::as_bytes(std::span(corpus.targets)),
                       std::as_bytes(std::span(&corpus.row, 1))});
  if (!data.tokens.empty()) return file_hash(data.tokens);
  return bytes_hash({std::as_bytes(std::span(corpus.tokens)), std::as_bytes(std::span(corpus.documents))});
}

Provenance provenance_of(const Spec& spec, const Corpus& corpus, Backends& backends) {
  Provenance p = provenance_of(backends.of(spec.baseline));
  for (const TargetSpec& target : spec.targets)
    if (backends.of(target).available()) p.libraries.merge(backends.of(target).info().libraries);
  p.chunk_windows = spec.run.chunk_windows;
  p.tokens_path = spec.data.written;
  p.protocol = spec.data.protocol_spelling();
  p.tokens_hash = corpus_hash(spec.data, corpus);
  if (!spec.data.text.text.empty()) {
    p.tokenizer = spec.data.tokenizer_written;
    p.tokenizer_hash = file_hash(spec.data.text.tokenizer);
    p.documents = to_string(spec.data.text.documents);
  }
  p.targets_path = spec.data.targets_written;
  p.first_token = spec.data.first_token;
  return p;
}

void take_machine(Provenance& into, const Provenance& from) {
  into.tool_version = from.tool_version;
  into.git_commit = from.git_commit;
  into.compiler = from.compiler;
  into.libraries = from.libraries;
  into.device = from.device;
  into.isa = from.isa;
  into.threads = from.threads;
}

RunIdentity identity_of(const Spec& spec, const Provenance& provenance,
                        const std::map<std::string, std::string>& model_hashes, Backends& backends) {
  RunIdentity identity;
  const auto add = [&](const std::string& name, std::string value) {
    identity.entries.emplace_back(name, std::move(value));
  };
  add("configuration file", spec.file.string());
  add("configuration", spec.text);
  add("--set", lines_of(spec.sets));
  add("models", names_of(spec.models));
  add("targets", names_of(spec.targets));
  add("tokens", provenance.tokens_hash);
  if (!provenance.tokenizer_hash.empty()) add("tokenizer", provenance.tokenizer_hash);
  for (const auto& [model, hash] : model_hashes) add("model " + model, hash);
  for (const GateSpec& gate : spec.gates) {
    std::error_code error;
    if (!gate.relative_written.empty())
      add(std::format("baseline of gate {}, {}", gate.name, gate.relative_written),
          std::filesystem::is_regular_file(gate.relative_file, error) ? file_hash(gate.relative_file) : "");
  }
  add("program", std::format("{} {} {}", provenance.tool_version, provenance.git_commit, file_hash("/proc/self/exe")));
  const auto on_machine = [&](const std::string& name, std::string value) {
    identity.machine_entries.emplace_back(name, std::move(value));
  };
  on_machine("device", provenance.device);
  on_machine("instruction set", provenance.isa);
  on_machine("number of threads", std::to_string(provenance.threads));
  for (const auto& [library, version] : provenance.libraries) on_machine("library " + library, version);
  for (const TargetSpec& target : spec.targets)
    if (kernels::Backend& backend = backends.of(target); backend.available()) {
      const kernels::BackendInfo info = backend.info();
      on_machine("device of target " + target.name, std::format("{}, {}, {} threads", info.device, info.isa, info.threads));
    } else {
      on_machine("device of target " + target.name, "");
    }
  identity.machine = provenance;
  return identity;
}

}  // namespace qfid::eval
