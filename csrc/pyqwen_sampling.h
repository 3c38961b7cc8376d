/* pyqwen_sampling.h - the public interface of samplers, on top of pyqwen.h and by its rules: logits to tokens.
 */
#ifndef PYQWEN_SAMPLING_H
#define PYQWEN_SAMPLING_H

#include "pyqwen.h"

typedef struct pq_sampler pq_sampler;

/* Texts behind which the DRY penalty looks for no repetition, and the texts of the tokens they are found in.
 * Immutable, may be shared by threads and samplers, which it must outlive. */
typedef struct pq_breakers pq_breakers;

enum { PQ_MAX_BREAKER_BYTES = 1000 };

/* Copies what it needs; the breakers have PQ_MAX_BREAKER_BYTES together at most. */
pq_status pq_breakers_open(pq_breakers **out, const pq_strings *tokens, const pq_strings *breakers,
                           pq_error *err);
void pq_breakers_close(pq_breakers *breakers);

/* What changes logits or leaves tokens out, in the default order. */
typedef enum pq_filter {
    PQ_FILTER_PENALTIES = 0, /* repetition, presence, frequency */
    PQ_FILTER_DRY,
    PQ_FILTER_TOP_N_SIGMA,
    PQ_FILTER_TEMPERATURE,
    PQ_FILTER_TOP_K,
    PQ_FILTER_TOP_P,
    PQ_FILTER_MIN_P,
    PQ_FILTER_TYPICAL_P,
    PQ_FILTER_XTC,
    PQ_FILTERS /* how many there are */
} pq_filter;

typedef struct pq_sampler_options {
    float temperature;        /* 0: greedy */
    int32_t top_k;            /* 0: off */
    float top_p;              /* 1: off */
    float min_p;              /* 0: off */
    float typical_p;          /* 1: off */
    float repetition_penalty; /* 1: off; as Hugging Face: prompt and output, once per token */
    float presence_penalty;   /* 0: off; output tokens only, as OpenAI's */
    float frequency_penalty;  /* 0: off */
    float dry_multiplier;     /* 0: off; the penalty is multiplier * base^(run - allowed_length) */
    float dry_base;           /* >= 1 */
    int32_t dry_allowed_length; /* >= 1; the shortest run of tokens whose repetition is penalized */
    const pq_breakers *dry_breakers; /* NULL: none; borrowed until the sampler is closed */
    float
        xtc_probability; /* 0: off; takes one random number per token, before the draw's, if the threshold
                              is at most 0.5 */
    float xtc_threshold;
    float top_n_sigma; /* 0: off */
    const uint8_t
        *order; /* (n_order) pq_filter, each at most once: only these; NULL: the default order. At
                             temperature 0 only penalties and DRY count */
    uint32_t n_order;
    uint64_t seed;
    const int32_t *bias_tokens; /* (n_bias) copied */
    const float
        *bias_values; /* (n_bias) added to the logits, after penalties that come first, else before
                                   all; -INFINITY forbids a token */
    uint32_t n_bias;
    const uint32_t *
        unpenalized; /* NULL, or a bit per token as in a mask: those that no penalty is for. Borrowed */
} pq_sampler_options;

enum { PQ_MAX_TOP_LOGPROBS = 20 };

typedef struct pq_sample {
    int32_t token;
    float logprob; /* natural log, of the model's own distribution: no penalties or temperature */
    uint32_t n_top;
    int32_t top_tokens[20];
    float top_logprobs[20]; /* descending */
} pq_sample;

/* real_tokens: ids from there on are padding and can never be sampled. */
pq_status pq_sampler_open(pq_sampler **out, uint32_t real_tokens, const pq_sampler_options *options,
                          pq_error *err);
void pq_sampler_close(pq_sampler *sampler);
/* Tells the sampler what stands in the text already; `generated` is 0 for the prompt. */
pq_status pq_sampler_accept(pq_sampler *sampler, const int32_t *tokens, size_t n, int generated,
                            pq_error *err);
/* Draws from (n_logits) raw logits, n_logits >= real_tokens, which it overwrites; the token is accepted.
 * mask: NULL, or one bit per token: where bit t % 32 of word t / 32 is 0, it is as if the vocabulary lacked
 * token t, but for what is reported. n_top: how many of the likeliest tokens to report, <=
 * PQ_MAX_TOP_LOGPROBS; with want_logprob 0 neither logprob nor top are computed. */
pq_status pq_sampler_sample(pq_sampler *sampler, float *logits, size_t n_logits,
                            const uint32_t *mask, int want_logprob, uint32_t n_top, pq_sample *out,
                            pq_error *err);
/* 1: remembers, for pq_sampler_rewind, what is accepted from here on. 0: forgets the mark. */
void pq_sampler_mark(pq_sampler *sampler, int on);
/* Takes back all but the first n tokens after the mark: penalties and random numbers are what they were. */
pq_status pq_sampler_rewind(pq_sampler *sampler, size_t n, pq_error *err);

/* How one token of a run is found. A forced one is `next` and takes no random number; `output` is then read
 * for the log-probability only, if one is wanted. */
typedef struct pq_draw {
    const uint32_t *mask; /* NULL, or as for pq_sampler_sample */
    uint32_t output;      /* of the last evaluation: of the row before the token */
    int32_t next;         /* what stands in the row after that: a draft; -1: nothing */
    uint32_t forced;      /* 1: forced */
} pq_draw;

/* Tokens of one sequence, sampled one after the other. All pointers are the caller's. */
typedef struct pq_run {
    pq_sampler *sampler;             /* which no other run of the call uses */
    const pq_draw *draws;            /* (n) */
    pq_sample *samples;              /* (n) */
    uint32_t n, want_logprob, n_top; /* as for pq_sampler_sample */
    uint32_t sampled;                /* result: samples written, and tokens accepted */
    pq_status status;                /* result: PQ_OK, or why the draw after these failed */
    pq_error error;
} pq_run;

/* Samples runs from outputs of the last evaluation; the weights of the output matrix are read once for up to
 * 16 outputs. A token is drawn only while every one before it was what stood in the next row: so samples and
 * sampler are what evaluating and sampling token by token gives, bit for bit. What the sequence holds behind
 * the last token that was as drafted, the caller rewinds. A run that fails does not disturb the others. If
 * the call fails, also by cancelling, nothing was sampled and every sampler is as before. */
pq_status pq_session_sample(pq_session *session, pq_run *runs, uint32_t n, pq_error *err);

#endif
