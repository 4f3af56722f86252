#include "moe.h"

#include "expert_choice.h"
#include "expert_mixing.h"
#include "model_file.h"
#include "signature.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { LONGEST_NAME = 32 };

struct moe {
    model_file file;
    runtime host;
    signature whole, gate, combine, *experts;
    size_t num_experts, num_values;
    const port *x, *routing_weights, *prediction;       /* of the whole graph */
    const port *gate_weights, *slots, *counted, *mixed; /* of the parts: slots and counted are what combine takes */
    size_t *chosen, num_chosen;
    float *shares;
    float *few, *scratch; /* the prediction of MOE_MIX_FEW, and room to make it */
    bool routed;          /* the last answer */
    moe_mixing mixing;
    mixing_form form;
    char not_routed[MOE_ERROR_SIZE], error[MOE_ERROR_SIZE];
};

static int refuse(moe *mixture, const char *message) {
    snprintf(mixture->error, sizeof mixture->error, "%s", message);
    return -1;
}

/* Whether `combine` is a sum of answers or of their softmax is found by running it, not by believing a name. */
static bool find_form(moe *mixture) {
    static const float AGREES = 2e-6f; /* float32 sums in another order; an int8 softmax differs by 1/256 */
    size_t experts = mixture->num_experts, values = mixture->num_values;
    float *weights = mixture->counted->values, *answers = mixture->slots->values, sum = 0;
    if (mixture->combine.num_outputs != 1 || mixture->mixed->count != values) return false;
    for (size_t index = 0; index < experts; index++) sum += weights[index] = fabsf(sinf((float)index * 1.7f)) + 0.01f;
    for (size_t index = 0; index < experts; index++) {
        weights[index] /= sum, mixture->chosen[index] = index;
        for (size_t value = 0; value < values; value++)
            answers[index * values + value] = 2 * sinf((float)(experts + index * values + value) * 1.7f);
    }
    bool found = false;
    if (signature_run(&mixture->combine, &mixture->host) == 0) {
        for (int form = MIX_SUM; form <= MIX_SOFTMAX && !found; form++) {
            mixture->form = (mixing_form)form;
            mix_few(mixture->form, answers, values, mixture->chosen, weights, experts, mixture->few, mixture->scratch);
            found = true;
            for (size_t value = 0; value < values; value++)
                found = found && fabsf(mixture->few[value] - mixture->mixed->values[value]) < AGREES;
        }
    }
    memset(weights, 0, experts * sizeof *weights);
    memset(answers, 0, experts * values * sizeof *answers);
    return found;
}

/* Opens the parts; false with `error` if the file has them and they don't fit, true if it has none. */
static bool open_parts(moe *mixture, moe_mixing mixing, char *error) {
    const runtime *host = &mixture->host;
    char name[LONGEST_NAME] = "gate";
    int status = signature_open(&mixture->gate, host, name, mixture->x, error, MOE_ERROR_SIZE);
    if (status > 0)
        status = signature_open(&mixture->combine, host, strcpy(name, "combine"), NULL, error, MOE_ERROR_SIZE);
    const port *features = NULL;
    if (status > 0) {
        mixture->gate_weights = signature_output(&mixture->gate, "routing_weights");
        features = signature_output(&mixture->gate, "features");
        mixture->slots = signature_input(&mixture->combine, "outputs");
        mixture->counted = signature_input(&mixture->combine, "routing_weights");
        mixture->mixed = signature_output(&mixture->combine, "prediction");
        if (mixture->gate_weights == NULL || features == NULL || mixture->slots == NULL || mixture->counted == NULL ||
            mixture->mixed == NULL || mixture->gate_weights->count != mixture->num_experts ||
            mixture->counted->count != mixture->num_experts || mixture->slots->count % mixture->num_experts != 0) {
            snprintf(error, MOE_ERROR_SIZE, "expected gate and combine as in docs/FILE_FORMAT.md, got others");
            return false;
        }
        mixture->num_values = mixture->slots->count / mixture->num_experts;
    }
    for (size_t index = 0; status > 0 && index < mixture->num_experts; index++) {
        snprintf(name, sizeof name, "expert_%zu", index);
        signature *expert = &mixture->experts[index];
        status = signature_open(expert, host, name, features, error, MOE_ERROR_SIZE);
        const port *output = status > 0 ? signature_output(expert, "output") : NULL;
        if (status > 0 && (output == NULL || expert->num_outputs != 1 || output->count != mixture->num_values)) {
            snprintf(error, MOE_ERROR_SIZE, "signature %s: expected an output of %zu values", name,
                     mixture->num_values);
            return false;
        }
    }
    if (status == 0)
        snprintf(
            mixture->not_routed, sizeof mixture->not_routed,
            "the file has no signature %s, so its experts can't run alone; use the whole graph, or convert it again "
            "without --fused-only",
            name);
    if (status <= 0) return status == 0;
    mixture->few = malloc(mixture->num_values * sizeof *mixture->few);
    mixture->scratch = malloc(mixture->num_values * sizeof *mixture->scratch);
    if (mixture->few == NULL || mixture->scratch == NULL)
        return snprintf(error, MOE_ERROR_SIZE, "out of memory"), false;
    mixture->mixing = mixing == MOE_MIX_FEW && find_form(mixture) ? MOE_MIX_FEW : MOE_MIX_FILE;
    return true;
}

static bool open_all(moe *mixture, const char *path, const moe_settings *settings, char *error) {
    if (!model_file_open(&mixture->file, path, !settings->skip_digests, error, MOE_ERROR_SIZE)) return false;
    if (!runtime_open(&mixture->host, settings->library, mixture->file.bytes, mixture->file.size, error,
                      MOE_ERROR_SIZE))
        return false;
    int status = signature_open(&mixture->whole, &mixture->host, "serving_default", NULL, error, MOE_ERROR_SIZE);
    mixture->x = signature_input(&mixture->whole, "x");
    mixture->prediction = signature_output(&mixture->whole, "prediction");
    mixture->routing_weights = signature_output(&mixture->whole, "routing_weights");
    if (status < 0) return false;
    if (status == 0 || mixture->x == NULL || mixture->prediction == NULL || mixture->routing_weights == NULL) {
        snprintf(error, MOE_ERROR_SIZE, "%s: expected serving_default with x, prediction, routing_weights, got another",
                 path);
        return false;
    }
    mixture->num_experts = mixture->routing_weights->count;
    mixture->experts = calloc(mixture->num_experts, sizeof *mixture->experts);
    mixture->chosen = calloc(mixture->num_experts, sizeof *mixture->chosen);
    mixture->shares = calloc(mixture->num_experts, sizeof *mixture->shares);
    if (mixture->experts == NULL || mixture->chosen == NULL || mixture->shares == NULL)
        return snprintf(error, MOE_ERROR_SIZE, "out of memory"), false;
    return open_parts(mixture, settings->mixing, error);
}

moe *moe_open(const char *path, const moe_settings *settings, char error[MOE_ERROR_SIZE]) {
    static const moe_settings usual;
    moe *mixture = calloc(1, sizeof *mixture);
    if (mixture == NULL) {
        snprintf(error, MOE_ERROR_SIZE, "out of memory");
        return NULL;
    }
    if (open_all(mixture, path, settings == NULL ? &usual : settings, error)) return mixture;
    moe_close(mixture);
    return NULL;
}

moe_shape moe_describe(const moe *mixture) {
    return (moe_shape){mixture->x->count, mixture->prediction->count, mixture->num_experts,
                       mixture->not_routed[0] == 0 ? NULL : mixture->not_routed, mixture->mixing};
}

int moe_predict(moe *mixture, const float *row) {
    mixture->routed = false;
    memcpy(mixture->x->values, row, mixture->x->count * sizeof *row);
    return signature_run(&mixture->whole, &mixture->host) == 0 ? 0
                                                               : refuse(mixture, "LiteRT couldn't run the whole graph");
}

int moe_route(moe *mixture, const float *row, moe_choice choice) {
    if (mixture->not_routed[0] != 0) return refuse(mixture, mixture->not_routed);
    const runtime *host = &mixture->host;
    size_t num_values = mixture->num_values;
    float *slots = mixture->slots->values, *counted = mixture->counted->values;
    /* What the last row left behind would count 0, but 0 times infinity is no number. */
    for (size_t place = 0; place < mixture->num_chosen; place++) {
        counted[mixture->chosen[place]] = 0;
        memset(slots + mixture->chosen[place] * num_values, 0, num_values * sizeof *slots);
    }
    mixture->num_chosen = 0;
    mixture->routed = true;
    memcpy(mixture->x->values, row, mixture->x->count * sizeof *row);
    if (signature_run(&mixture->gate, host) != 0) return refuse(mixture, "LiteRT couldn't run the gate");
    size_t count =
        choose_experts(mixture->gate_weights->values, mixture->num_experts, choice, mixture->chosen, mixture->shares);
    if (count == 0) return refuse(mixture, "the gate gave no weights for this row: is one of its values not finite?");
    for (; mixture->num_chosen < count; mixture->num_chosen++) {
        size_t chosen = mixture->chosen[mixture->num_chosen];
        signature *expert = &mixture->experts[chosen];
        if (signature_run(expert, host) != 0) return refuse(mixture, "LiteRT couldn't run an expert");
        memcpy(slots + chosen * num_values, expert->outputs[0].values, num_values * sizeof *slots);
        counted[chosen] = mixture->shares[mixture->num_chosen];
    }
    if (mixture->mixing == MOE_MIX_FEW)
        mix_few(mixture->form, slots, num_values, mixture->chosen, mixture->shares, count, mixture->few,
                mixture->scratch);
    else if (signature_run(&mixture->combine, host) != 0)
        return refuse(mixture, "LiteRT couldn't weigh the answers");
    return 0;
}

const float *moe_output(const moe *mixture, const char *name, size_t *count) {
    const port *found;
    if (!mixture->routed)
        found = signature_output(&mixture->whole, name);
    else if (strcmp(name, "routing_weights") == 0)
        found = mixture->counted;
    else {
        found = signature_output(&mixture->combine, name);
        /* What the gate says besides, such as how usual a row is. */
        if (found == NULL && strcmp(name, "features") != 0) found = signature_output(&mixture->gate, name);
    }
    if (found == NULL) return NULL;
    *count = found->count;
    return found == mixture->mixed && mixture->mixing == MOE_MIX_FEW ? mixture->few : found->values;
}

const char *moe_error(const moe *mixture) {
    return mixture->error;
}

void moe_close(moe *mixture) {
    if (mixture == NULL) return;
    for (size_t index = 0; mixture->experts != NULL && index < mixture->num_experts; index++)
        signature_close(&mixture->experts[index], &mixture->host);
    signature_close(&mixture->combine, &mixture->host);
    signature_close(&mixture->gate, &mixture->host);
    signature_close(&mixture->whole, &mixture->host);
    runtime_close(&mixture->host);
    model_file_close(&mixture->file);
    free(mixture->experts);
    free(mixture->chosen);
    free(mixture->shares);
    free(mixture->few);
    free(mixture->scratch);
    free(mixture);
}
