#include "eval/metrics/blame.h"

#include <algorithm>
#include <cmath>
#include <set>

namespace qfid::eval {

namespace {

std::optional<double> column(const LayerRow& row, const char* name) {
  for (const auto& [key, value] : row.values)
    if (key == name) return value;
  return std::nullopt;
}

/// How far beyond its limits a comparison of real with emulated is, in times the nearest limit; NaN counts as infinitely
/// far.
double beyond(const LayerRow& row, const KernelLimits& limits) {
  double worst = 0;
  const auto raise = [&](std::optional<double> value, double limit) {
    if (value) worst = std::isnan(*value) ? INFINITY : std::max(worst, *value / limit);
  };
  if (row.tap == "probs") {
    raise(column(row, "kl"), limits.probs_kl);
    return worst;
  }
  if (row.tap == "p_codes") {
    raise(column(row, "histogram_distance"), limits.p_codes);
    return worst;
  }
  raise(column(row, "nmse"), row.tap == "output" ? limits.output_nmse : limits.linear_nmse);
  if (const std::optional<double> gain = column(row, "gain")) raise(std::fabs(*gain - 1), limits.gain);
  if (column(row, "nan").value_or(0) > 0) worst = INFINITY;
  return worst;
}

BlamedPlace place_of(const LayerRow& row) {
  BlamedPlace place;
  place.layer = row.layer;
  place.head = row.head;
  place.tap = row.tap;
  place.gain = column(row, "gain");
  place.nmse = column(row, "nmse");
  place.sqnr_db = column(row, "sqnr_db");
  place.kl = column(row, "kl");
  place.histogram_distance = column(row, "histogram_distance");
  return place;
}

/// Heads of one tap and layer that are beyond, against all of them.
bool every_head(const std::vector<const LayerRow*>& rows, const LayerRow& like, const KernelLimits& limits) {
  return std::all_of(rows.begin(), rows.end(), [&](const LayerRow* row) {
    return row->layer != like.layer || row->tap != like.tap || row->head == -1 || beyond(*row, limits) > 1;
  });
}

/// Whether the tap is beyond in each layer that has it, of several.
bool every_layer(const std::vector<const LayerRow*>& rows, const std::string& tap, const KernelLimits& limits) {
  std::set<int> all, bad;
  for (const LayerRow* row : rows) {
    if (row->tap != tap) continue;
    all.insert(row->layer);
    if (beyond(*row, limits) > 1) bad.insert(row->layer);
  }
  return all.size() > 1 && bad.size() == all.size();
}

/// The farthest beyond; rows of single heads speak before those that pool them.
const LayerRow* farthest(const std::vector<const LayerRow*>& rows, const KernelLimits& limits) {
  const LayerRow* worst = nullptr;
  double most = 1;
  for (const LayerRow* row : rows) {
    const double times = beyond(*row, limits);
    if (times > most || (worst != nullptr && times == most && worst->head == -1 && row->head != -1)) {
      most = times;
      worst = row;
    }
  }
  if (worst == nullptr || (worst->tap != "output" && worst->tap != "p_codes")) return worst;
  for (const char* tap : {"probs", "p_codes"}) {  // what makes the output of the same layer, where it is off too
    if (worst->tap == tap) break;
    const LayerRow* cause = nullptr;
    for (const LayerRow* row : rows)
      if (row->tap == tap && row->layer == worst->layer && beyond(*row, limits) > 1 &&
          (cause == nullptr || beyond(*row, limits) > beyond(*cause, limits)))
        cause = row;
    if (cause != nullptr) return cause;
  }
  return worst;
}

std::optional<BlamedPlace> suspect_kernel(const std::vector<const LayerRow*>& rows, const KernelLimits& limits) {
  const LayerRow* worst = farthest(rows, limits);
  if (worst == nullptr) return std::nullopt;
  BlamedPlace place = place_of(*worst);
  place.beyond = beyond(*worst, limits);
  place.of = static_cast<int>(rows.size());
  for (const LayerRow* row : rows) place.places += beyond(*row, limits) > 1 ? 1 : 0;
  if (every_head(rows, *worst, limits)) place.head = -1;
  if (every_layer(rows, worst->tap, limits)) place.layer = -1;
  return place;
}

std::optional<BlamedPlace> worst_local(const std::vector<LayerRow>& rows) {
  const LayerRow* worst = nullptr;
  double least = INFINITY;  // an exact place has no SQNR
  for (const LayerRow& row : rows) {
    if (row.error != "local") continue;
    double sqnr = column(row, "sqnr_db").value_or(INFINITY);
    if (std::isnan(sqnr) || column(row, "nan").value_or(0) > 0) sqnr = -INFINITY;  // nothing is worse than NaN
    if (!(sqnr < least)) continue;
    least = sqnr;
    worst = &row;
  }
  return worst == nullptr ? std::nullopt : std::optional(place_of(*worst));
}

double nmse_at(const std::vector<LayerRow>& rows, const BlamedPlace& place, const char* error) {
  for (const LayerRow& row : rows)
    if (row.error == error && row.layer == place.layer && row.head == place.head && row.tap == place.tap)
      return column(row, "nmse").value_or(0);
  return -1;
}

Party party_of(const std::vector<LayerRow>& rows, const BlamedPlace& damage) {
  const double format = nmse_at(rows, damage, "format"), kernel = nmse_at(rows, damage, "kernel");
  if (format < 0 || kernel < 0) return Party::unknown;
  return kernel > format ? Party::kernel : Party::format;
}

}  // namespace

Blame blame(const std::vector<LayerRow>& rows, const KernelLimits& limits) {
  std::vector<const LayerRow*> compared;
  for (const LayerRow& row : rows)
    if (row.error == "kernel") compared.push_back(&row);
  const std::optional<BlamedPlace> damage = worst_local(rows);
  return {damage, damage ? party_of(rows, *damage) : Party::unknown, suspect_kernel(compared, limits)};
}

}  // namespace qfid::eval
