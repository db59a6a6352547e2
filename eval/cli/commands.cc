// The commands that need no configuration.
#include "eval/cli/commands.h"

#include <algorithm>
#include <array>
#include <format>
#include <iostream>

#include "eval/experiment/spec_reader.h"
#include "eval/experiment/target_precision.h"
#include "eval/model/checkpoint.h"
#include "eval/report/report.h"
#include "kernels/registry/registry.h"
#include "quant/core/error.h"
#include "quant/core/nearest.h"

namespace qfid::eval {

const std::vector<CommandInfo>& command_list() {
  static const std::vector<CommandInfo> all{
      {"run", "Run an experiment and write its reports"},
      {"merge", "Put the shards of a run together: the files that the whole run would have written"},
      {"plan", "Show what would run: support, work, memory, time, one repro line each"},
      {"validate", "Check a configuration; every error with file:line:column"},
      {"check", "Evaluate gates on results that are there; exit code 1 when one doesn't pass"},
      {"baseline", "Save, show or update a baseline that gates compare with"},
      {"report", "Render results again: HTML, Markdown, pull request, OpenMetrics, lm-eval, JUnit, CSV"},
      {"recommend", "Which target should ship, within a budget of quality"},
      {"compare", "Results of the same data side by side, paired"},
      {"attention", "Attention alone, on your tensors: every target's fidelity, format or kernel"},
      {"inspect", "Show a checkpoint: configuration, tensors, what each is to the model"},
      {"cache", "What runs with --cache share: list it, make it smaller"},
      {"tokenize", "Text to a token file, by the model's tokenizer.json"},
      {"backends", "Show what is here: devices, ISA, library versions, or why not"},
      {"metrics", "Print every measure: key, meaning, unit, direction, gates, what it can't see"},
      {"schema", "Print the JSON Schema of configurations"},
      {"completion", "Print a completion script for bash, zsh or fish"},
  };
  return all;
}

int command_inspect(const std::string& model) {
  const ModelConfig config = read_config(model);
  Checkpoint checkpoint = Checkpoint::open(model);
  const std::vector<std::string> unused = check_weights(checkpoint, config);  // sorted, as names() is
  std::cout << std::format(
      "{}: {} ({}), {} layers, hidden {}, {} heads of {}, ffn {}, vocabulary {}, {} positions, {} parameters\ncontent "
      "{}\n\n",
      model, config.family, variant_name(config), config.num_hidden_layers, config.hidden_size, config.num_attention_heads,
      config.head_dim(), config.ffn_dim, config.vocab_size, config.max_position_embeddings, checkpoint.parameters(),
      checkpoint.content_hash());
  for (const std::string& name : checkpoint.names()) {
    const TensorInfo& info = checkpoint.info(name);
    std::cout << std::format("{:<60} {:<5} {:<14} {}\n", printable(name), info.dtype, shape_text(info.shape),
                             std::binary_search(unused.begin(), unused.end(), name) ? "UNUSED" : tensor_role(config, name));
  }
  return 0;
}

int command_backends() {
  for (std::string_view name : kernels::backend_names()) {
    const auto backend = kernels::make_backend(name);
    const kernels::Support here = backend->available();
    if (!here) {
      std::cout << std::format("{:<10} not available: {}\n", name, here.reason);
      continue;
    }
    const kernels::BackendInfo info = backend->info();
    std::cout << std::format("{:<10} {}, ISA {}, {} threads", name, info.device, info.isa, info.threads);
    for (const auto& [library, version] : info.libraries) std::cout << ", " << library << " " << version;
    std::cout << "\n";
  }
  return 0;
}

int command_schema() {
  std::cout << spec_schema();
  return 0;
}

int command_metrics() {
  std::cout << metrics_reference();
  return 0;
}

int command_completion(const std::string& shell) {
  std::string names;
  for (const CommandInfo& info : command_list()) names += (names.empty() ? "" : " ") + std::string(info.name);
  if (shell == "bash") {
    std::cout
        << "_qfid() {\n  local cur=${COMP_WORDS[COMP_CWORD]}\n  if [ $COMP_CWORD -eq 1 ]; then COMPREPLY=($(compgen -W \""
        << names
        << " --help --version\" -- \"$cur\"))\n  elif [[ $cur == -* ]]; then COMPREPLY=($(compgen -W \"--set --model "
           "--target --out --junit --dump --dump-limit --quiet --restart --shard --no-timings --cache --cache-dir "
           "--cache-size --no-cache --baseline --gates --tokens "
           "--html --markdown --pr "
           "--annotations --openmetrics --lm-eval --csv --layers --tokenizer --documents --protocol --help\" -- \"$cur\"))\n"
           "  else COMPREPLY=($(compgen -f -- \"$cur\")); fi\n}\ncomplete -o filenames -F _qfid qfid\n";
  } else if (shell == "zsh") {
    std::cout << "#compdef qfid\n_arguments '1:command:(" << names << ")' '*:file:_files'\n";
  } else if (shell == "fish") {
    for (const CommandInfo& info : command_list())
      std::cout << "complete -c qfid -n __fish_use_subcommand -f -a " << info.name << " -d '" << info.summary << "'\n";
  } else {
    throw quant::Error(quant::ErrorKind::usage,
                       "unknown shell \"" + shell + "\", expected bash, zsh or fish" +
                           quant::did_you_mean(shell, std::array<std::string_view, 3>{"bash", "zsh", "fish"}));
  }
  return 0;
}

}  // namespace qfid::eval
