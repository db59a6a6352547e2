#include "eval/experiment/simulated_model.h"

#include <cmath>
#include <format>

#include "eval/experiment/chunk.h"
#include "quant/core/error.h"

namespace qfid::eval {

SimulatedModel::SimulatedModel(kernels::Backend& backend, const DecoderWeights& weights, const SimulationSpec& spec,
                               const std::vector<Window>& calibration)
    : weights_(simulated_weights(weights, spec)), resources_(backend, weights_), simulation_(backend, spec) {
  simulation_.estimate(true);
  const std::unique_ptr<Decoder> model = decoder();
  for (std::size_t w = 0; w < calibration.size(); ++w) {
    const quant::Tensor ids = ids_of(calibration, w, w + 1, &Window::input);
    kernels::DeviceTensor hidden = model->embed(backend.upload(ids));
    const kernels::DeviceTensor key_mask = model->key_mask(ids);
    for (int l = 0; l < model->layers(); ++l) hidden = model->layer(l, hidden, nullptr, key_mask).residual;
    model->last_hidden(hidden);
  }
  simulation_.estimate(false);
  for (const auto& [site, range] : simulation_.ranges())
    if (!std::isfinite(range.min) || !std::isfinite(range.max))
      throw quant::Error(quant::ErrorKind::input,
                         std::format("simulated quantization: the calibration windows give site {} the range [{}, {}]", site,
                                     range.min, range.max));
}

std::unique_ptr<Decoder> SimulatedModel::decoder() {
  DecoderPrecision full;
  full.layers.resize(weights_.layers.size());
  auto model = std::make_unique<Decoder>(resources_, full, SiteRanges{});
  model->simulate(&simulation_);
  return model;
}

}  // namespace qfid::eval
