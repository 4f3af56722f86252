#include "signature.h"

#include <stdio.h>
#include <string.h>

/* Tags of LiteRtEnvOption, and LiteRtAny's type of a whole number. */
enum { AUTO_REGISTER = 24, MIN_SEVERITY = 25, WHOLE_NUMBER = 2, ERRORS_ONLY = 3 };

bool runtime_open(runtime *host, const char *library, const void *bytes, size_t size, char *error, size_t error_size) {
    memset(host, 0, sizeof *host);
    if (!litert_load(&host->api, library, error, error_size)) return false;
    const litert_api *api = &host->api;
    /* No search for GPUs, and no words about it. */
    const litert_option quiet[] = {{AUTO_REGISTER, 0, WHOLE_NUMBER, LITERT_ON_CPU},
                                   {MIN_SEVERITY, 0, WHOLE_NUMBER, ERRORS_ONLY}};
    const char *step = "CreateEnvironment";
    int status = api->CreateEnvironment(2, quiet, &host->environment);
    if (status != 0) status = api->CreateEnvironment(0, NULL, &host->environment);
    if (status == 0)
        step = "CreateModelFromBuffer",
        status = api->CreateModelFromBuffer(host->environment, bytes, size, &host->model);
    if (status == 0) step = "CreateOptions", status = api->CreateOptions(&host->options);
    if (status == 0) status = api->SetOptionsHardwareAccelerators(host->options, LITERT_ON_CPU);
    if (status == 0) {
        step = "CreateCompiledModel";
        status = api->CreateCompiledModel(host->environment, host->model, host->options, &host->compiled);
    }
    if (status == 0) return true;
    snprintf(error, error_size, "LiteRT refused the model: LiteRt%s gave %d", step, status);
    runtime_close(host);
    return false;
}

void runtime_close(runtime *host) {
    const litert_api *api = &host->api;
    if (host->compiled != NULL) api->DestroyCompiledModel(host->compiled);
    if (host->options != NULL) api->DestroyOptions(host->options);
    if (host->model != NULL) api->DestroyModel(host->model);
    if (host->environment != NULL) api->DestroyEnvironment(host->environment);
    litert_unload(&host->api);
    memset(host, 0, sizeof *host);
}

/* The name under which a signature knows the tensor at this place of its subgraph; NULL if it has none.
 * Running takes buffers in the subgraph's order, names are listed in the signature's. */
static const char *name_at(const litert_api *api, void *of, bool output, size_t count, size_t place, void **tensor) {
    void *subgraph, *named;
    if (api->GetSignatureSubgraph(of, &subgraph) != 0) return NULL;
    if ((output ? api->GetSubgraphOutput : api->GetSubgraphInput)(subgraph, place, tensor) != 0) return NULL;
    for (size_t index = 0; index < count; index++) {
        const char *name;
        if ((output ? api->GetSignatureOutputName : api->GetSignatureInputName)(of, index, &name) != 0) return NULL;
        if ((output ? api->GetSignatureOutputTensor : api->GetSignatureInputTensor)(of, name, &named) != 0) return NULL;
        if (named == *tensor) return name;
    }
    return NULL;
}

/* NULL, or what is wrong. */
static const char *open_port(port *opened, const runtime *host, void *of, size_t index, bool output, size_t count,
                             size_t place, const port *shared) {
    const litert_api *api = &host->api;
    void *tensor, *requirements, *address;
    opened->name = name_at(api, of, output, count, place, &tensor);
    if (opened->name == NULL) return "has a tensor without a name";
    if (api->GetRankedTensorType(tensor, &opened->type) != 0) return "has a tensor without a shape";
    if (opened->type.element != LITERT_FLOAT32) return "expected float32 inputs and outputs; convert without --io int8";
    opened->count = 1;
    for (uint32_t axis = 0; axis < (opened->type.rank & 127u); axis++) {
        if (axis >= LITERT_MOST_SIZES || opened->type.sizes[axis] < 1) return "expected fixed sizes";
        opened->count *= (size_t)opened->type.sizes[axis];
    }
    if (shared != NULL) {
        if (shared->count != opened->count) return "doesn't take what the gate gives";
        opened->buffer = shared->buffer, opened->values = shared->values, opened->borrowed = true;
        return NULL;
    }
    if ((output ? api->GetCompiledModelOutputBufferRequirements : api->GetCompiledModelInputBufferRequirements)(
            host->compiled, index, place, &requirements) != 0)
        return "LiteRT doesn't say what memory it needs";
    if (api->CreateManagedTensorBufferFromRequirements(host->environment, &opened->type, requirements,
                                                       &opened->buffer) != 0)
        return "LiteRT gave no memory";
    if (api->GetTensorBufferHostMemory(opened->buffer, &address) != 0) return "expected memory of the processor";
    opened->values = address;
    memset(opened->values, 0, opened->count * sizeof *opened->values);
    return NULL;
}

static int find(const litert_api *api, void *model, const char *name, size_t *index, void **found) {
    size_t count;
    if (api->GetNumModelSignatures(model, &count) != 0) return -1;
    for (*index = 0; *index < count; ++*index) {
        const char *key;
        if (api->GetModelSignature(model, *index, found) != 0 || api->GetSignatureKey(*found, &key) != 0) return -1;
        if (strcmp(key, name) == 0) return 1;
    }
    return 0;
}

int signature_open(signature *opened, const runtime *host, const char *name, const port *shared, char *error,
                   size_t error_size) {
    memset(opened, 0, sizeof *opened);
    const litert_api *api = &host->api;
    void *of;
    size_t num_inputs = 0, num_outputs = 0;
    int found = find(api, host->model, name, &opened->index, &of);
    if (found == 0) return 0;
    const char *wrong = found < 0 ? "LiteRT doesn't list it" : NULL;
    if (wrong == NULL &&
        (api->GetNumSignatureInputs(of, &num_inputs) != 0 || api->GetNumSignatureOutputs(of, &num_outputs) != 0))
        wrong = "LiteRT doesn't count its inputs and outputs";
    if (wrong == NULL && (num_inputs > MOST_PORTS || num_outputs > MOST_PORTS))
        wrong = "has more inputs or outputs than known";
    if (wrong == NULL && shared != NULL && num_inputs != 1) wrong = "expected one input";
    for (; wrong == NULL && opened->num_inputs < num_inputs; opened->num_inputs++) {
        port *input = &opened->inputs[opened->num_inputs];
        wrong = open_port(input, host, of, opened->index, false, num_inputs, opened->num_inputs, shared);
        opened->input_buffers[opened->num_inputs] = input->buffer;
    }
    for (; wrong == NULL && opened->num_outputs < num_outputs; opened->num_outputs++) {
        port *output = &opened->outputs[opened->num_outputs];
        wrong = open_port(output, host, of, opened->index, true, num_outputs, opened->num_outputs, NULL);
        opened->output_buffers[opened->num_outputs] = output->buffer;
    }
    if (wrong == NULL) return 1;
    snprintf(error, error_size, "signature %s: %s", name, wrong);
    signature_close(opened, host);
    return -1;
}

static const port *named(const port *ports, size_t count, const char *name) {
    for (size_t index = 0; index < count; index++)
        if (strcmp(ports[index].name, name) == 0) return &ports[index];
    return NULL;
}

const port *signature_input(const signature *opened, const char *name) {
    return named(opened->inputs, opened->num_inputs, name);
}

const port *signature_output(const signature *opened, const char *name) {
    return named(opened->outputs, opened->num_outputs, name);
}

int signature_run(signature *opened, const runtime *host) {
    return host->api.RunCompiledModel(host->compiled, opened->index, opened->num_inputs, opened->input_buffers,
                                      opened->num_outputs, opened->output_buffers);
}

void signature_close(signature *opened, const runtime *host) {
    for (size_t index = 0; index < opened->num_inputs; index++)
        if (!opened->inputs[index].borrowed && opened->inputs[index].buffer != NULL)
            host->api.DestroyTensorBuffer(opened->inputs[index].buffer);
    for (size_t index = 0; index < opened->num_outputs; index++)
        if (opened->outputs[index].buffer != NULL) host->api.DestroyTensorBuffer(opened->outputs[index].buffer);
    memset(opened, 0, sizeof *opened);
}
