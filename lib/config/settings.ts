import * as z from 'zod';

const days = z.number().positive().max(36_500);

/** What one kind of cached answer is kept in, and for how long where nobody reads it. */
function kindSettings(
  layers: ('l1' | 'l2' | 'l3')[],
  ttlSeconds: number,
  what: string,
  most: ('l1' | 'l2' | 'l3')[] = ['l1', 'l2'],
) {
  return z
    .strictObject({
      layers: z.array(z.enum(most)).default(layers).describe('The layers that keep it; none has it loaded each time.'),
      ttlSeconds: z
        .int()
        .min(60)
        .max(31_536_000)
        .default(ttlSeconds)
        .describe(
          'How long layers 2 and 3 keep it, in seconds, give or take a tenth. It frees room; validity is by tick.',
        ),
    })
    .prefault({})
    .describe(what);
}

/**
 * The settings file, key by key. Every key has a default, so that an empty file is a good one; an unknown key stops the
 * start. `docs/configuration.md` is made from this.
 */
export const settingsSchema = z
  .strictObject({
    limits: z
      .strictObject({
        contextBytes: z
          .int()
          .min(1024)
          .max(10_485_760)
          .default(10_485_760)
          .describe('Largest content of a context, in bytes.'),
        inlineBytes: z
          .int()
          .min(1024)
          .max(4_194_304)
          .default(4_194_304)
          .describe(
            'Largest request body after decoding, and the most content an answer holds inline, in bytes. Larger contents come by uploads, whose parts have 4 MiB whatever this is.',
          ),
        uploads: z.int().min(1).max(100_000).default(64).describe('How many uploads of a space may be open at once.'),
        uploadsBytes: z
          .int()
          .min(10_485_760)
          .max(1_099_511_627_776)
          .default(268_435_456)
          .describe('How large the open uploads of a space may be together, as they were announced, in bytes.'),
        uploadHours: z
          .number()
          .positive()
          .max(8760)
          .default(24)
          .describe('After this many hours an upload that no write has named is gone.'),
        metadataBytes: z
          .int()
          .min(256)
          .max(65_536)
          .default(65_536)
          .describe('Largest metadata of a context, in bytes.'),
        treeDepth: z
          .int()
          .min(1)
          .max(32)
          .default(32)
          .describe('How many contexts deep a tree may be, its root included.'),
        cascadeContexts: z
          .int()
          .min(1)
          .max(1000)
          .default(1000)
          .describe('How many contexts one delete may take with it or orphan.'),
        waitSeconds: z.int().min(0).max(20).default(20).describe('Longest wait of `/v1/changes`, in seconds.'),
        graphBytes: z
          .int()
          .min(1024)
          .max(67_108_864)
          .default(33_554_432)
          .describe(
            'How large a knowledge graph may be to be read and searched whole by the memory tools, in bytes of contents.',
          ),
        toolBytes: z
          .int()
          .min(1024)
          .max(4_194_304)
          .default(262_144)
          .describe(
            'The most content that an MCP tool or resource answers with inline, in bytes; beyond it comes a link.',
          ),
        toolRequestBytes: z
          .int()
          .min(65_536)
          .max(67_108_864)
          .default(16_777_216)
          .describe('Largest message that the MCP endpoint takes, in bytes.'),
      })
      .prefault({})
      .describe('What one request may hold.'),
    versions: z
      .strictObject({
        retained: z
          .int()
          .min(1)
          .max(1_000_000)
          .default(100)
          .describe('Unpinned versions kept of each context, the head included.'),
        retainedDays: days
          .nullable()
          .default(null)
          .describe('No version younger than this is removed, in days; null sets no such bound.'),
      })
      .prefault({})
      .describe('How much history is kept.'),
    tombstones: z
      .strictObject({
        retainedDays: days
          .default(30)
          .describe('How long a deleted context answers 410 before it is forgotten, in days.'),
      })
      .prefault({})
      .describe('What remains of deleted contexts.'),
    feed: z
      .strictObject({
        retainedDays: days
          .nullable()
          .default(null)
          .describe('How long changes stay in the feed, in days; null is for ever.'),
      })
      .prefault({})
      .describe('The change feed.'),
    cache: z
      .strictObject({
        windowMs: z
          .int()
          .min(0)
          .max(60000)
          .default(1000)
          .describe(
            'How long an instance serves what it remembers without asking anyone, in milliseconds: how far a read without `Context-Seq` may be behind a write of another instance, and how long a revoked key may live there. 0 asks every time.',
          ),
        repairMs: z
          .int()
          .min(2000)
          .max(3600000)
          .default(10000)
          .describe(
            'How far such a read may be behind a write whose instance was killed or cut off from layer 2 before it could tell, in milliseconds.',
          ),
        graceMs: z
          .int()
          .min(0)
          .max(86_400_000)
          .default(600_000)
          .describe(
            'While PostgreSQL is away: how long after their last comparison with it the layers still answer reads without `Context-Seq` and `no-cache`, marked `stale`, in milliseconds. 0 answers 503 at once.',
          ),
        originMs: z
          .int()
          .min(100)
          .max(60_000)
          .default(5000)
          .describe('How long PostgreSQL may take for a cached read before it counts as away, in milliseconds.'),
        softDeadlineMs: z
          .int()
          .min(10)
          .max(10000)
          .default(80)
          .describe(
            'How long a read waits for layer 2 before it asks PostgreSQL instead, in milliseconds; that counts as a failure of layer 2.',
          ),
        deadlineMs: z
          .int()
          .min(10)
          .max(10000)
          .default(250)
          .describe('How long a write or a load waits until layer 2 has heard of it, in milliseconds.'),
        leaseMs: z
          .int()
          .min(0)
          .max(30_000)
          .default(1000)
          .describe(
            'How long an instance waits for another one that is loading the same context, in milliseconds; 0 has each load by itself.',
          ),
        breakerFailures: z
          .int()
          .min(1)
          .max(1000)
          .default(5)
          .describe('Failures of layer 2 within `breakerWithinMs` after which it is not asked for `breakerOpenMs`.'),
        breakerWithinMs: z
          .int()
          .min(100)
          .max(600000)
          .default(10000)
          .describe('See `breakerFailures`, in milliseconds.'),
        breakerOpenMs: z
          .int()
          .min(100)
          .max(600000)
          .default(5000)
          .describe('See `breakerFailures`, in milliseconds; then one request tries.'),
        layer1Bytes: z
          .int()
          .min(1048576)
          .max(8589934592)
          .default(134217728)
          .describe(
            'What layer 1 of an instance may weigh, in bytes; a value above a twentieth of it is not kept there.',
          ),
        layer2Bytes: z
          .int()
          .min(1024)
          .max(9000000)
          .default(1000000)
          .describe('Largest value that layer 2 is sent, as it travels, in bytes; larger ones stay in layer 1.'),
        compressBytes: z
          .int()
          .min(256)
          .max(10000000)
          .default(8192)
          .describe('From this size on a value is compressed for layer 2, in bytes.'),
        absentTtlSeconds: z
          .int()
          .min(1)
          .max(31_536_000)
          .default(300)
          .describe(
            'How long layer 2 keeps that there is no such context, in seconds; a shorter `ttlSeconds` of the kind counts instead.',
          ),
        kinds: z
          .strictObject({
            head: kindSettings(['l1', 'l2'], 86_400, 'Contexts as they are read by id, and ids without one.'),
            ancestry: kindSettings(['l1', 'l2'], 3600, 'The contexts above a context.'),
            effective: kindSettings(['l1', 'l2', 'l3'], 86_400, 'Contexts with their ancestors folded in.', [
              'l1',
              'l2',
              'l3',
            ]),
            list: kindSettings(
              ['l1', 'l2'],
              3600,
              'Pages of lists and of children. A list that is none of children is loaded again after each write.',
            ),
            tree: kindSettings(['l1', 'l2'], 3600, 'Subtrees.'),
            graph: kindSettings(
              ['l1', 'l2'],
              86_400,
              'The knowledge graph of the memory tools, whole or around some names.',
            ),
            vector: kindSettings(
              ['l3'],
              86_400,
              'Vectors of queries, of embedders that are asked over the network. No tick governs them, since a model gives a text the same vector for ever; see `renewShare`.',
              ['l3'],
            ),
            search: kindSettings(['l1', 'l2'], 3600, 'Answers of searches, each until the next write of the space.'),
            pack: kindSettings(['l1', 'l2'], 3600, 'Context packs for Droid, each until the next write of the space.'),
            key: kindSettings(['l1', 'l2'], 3600, 'API keys, without their secrets.'),
          })
          .prefault({})
          .describe('What is cached, and where.'),
        renewShare: z
          .number()
          .min(0)
          .max(1)
          .default(0.25)
          .describe(
            'Part of its `ttlSeconds`, at its end, in which the vector of a query that is asked for is given a new term, so that none in use is ever computed twice. One that is past its end, and not cleaned away yet, is served and given a new term as well.',
          ),
        touchedItems: z
          .int()
          .min(2)
          .max(100000)
          .default(4096)
          .describe(
            'Recently touched items that layer 2 remembers of a space; what is older than the oldest of them is loaded again.',
          ),
        listedItems: z
          .int()
          .min(1)
          .max(10000)
          .default(512)
          .describe('Touched items that an answer of layer 2 lists before it says that layer 1 must forget all.'),
        replyBytes: z
          .int()
          .min(1024)
          .max(100_000_000)
          .default(4_000_000)
          .describe(
            'How many bytes of values one answer of layer 2 carries; a batch beyond it is loaded from PostgreSQL.',
          ),
        layer3Bytes: z
          .int()
          .min(0)
          .max(9_000_000)
          .default(8192)
          .describe('From this size on an answer is worth a place in layer 3, as it travels, in bytes.'),
        reportSeconds: z
          .number()
          .min(0)
          .max(86_400)
          .default(60)
          .describe(
            'An instance reports what its caches did with the first write this many seconds after the last report of a space; 0 never.',
          ),
        reportDays: days.default(7).describe('How long reports are kept, in days.'),
        warm: z
          .strictObject({
            top: z.int().min(0).max(10_000).default(200).describe('How many values one run of warming looks at.'),
            budgetMs: z
              .int()
              .min(10)
              .max(600_000)
              .default(5000)
              .describe('How long one run may take, in milliseconds.'),
            halfLifeHours: z
              .number()
              .positive()
              .max(8760)
              .default(12)
              .describe('After this many hours a read counts half in what is worth warming.'),
          })
          .prefault({})
          .describe('Warming: see `schedules.warmMinutes`.'),
        marks: z
          .int()
          .min(1)
          .max(10000)
          .default(256)
          .describe('Ticks that layer 2 remembers ahead of a gap, so that late ones close it.'),
      })
      .refine(({ windowMs, repairMs }) => repairMs >= windowMs + 2000, {
        error: 'is at least windowMs and two seconds more',
        path: ['repairMs'],
      })
      .prefault({})
      .describe('The layers in front of the context tables.'),
    search: z
      .strictObject({
        k1: z
          .number()
          .min(0)
          .max(10)
          .default(0.9)
          .describe('BM25: how much more a text says that has a word more often. 1.2 suits long prose.'),
        b: z
          .number()
          .min(0)
          .max(1)
          .default(0.4)
          .describe('BM25: how much less a longer text says. 0.75 suits long prose.'),
        weight: z
          .number()
          .min(0)
          .max(1)
          .nullable()
          .default(null)
          .describe(
            "What the likeness of vectors counts beside that of words, 0 to 1; null takes what suits the embedder: 0.2 for the built-in one, 0.5 for a provider's.",
          ),
        near: z
          .number()
          .min(0)
          .max(1)
          .default(0.4)
          .describe(
            'In transcripts of short turns: how much of its score a turn adds to those right before and after it.',
          ),
        far: z.number().min(0).max(1).default(0.15).describe('Likewise to those one further.'),
        usdPerMillionTokens: z
          .number()
          .min(0)
          .nullable()
          .default(null)
          .describe('What a million tokens of the embedder cost, in US dollars; null takes the list price.'),
        candidates: z
          .int()
          .min(100)
          .max(1_000_000)
          .default(1000)
          .describe('Chunks that a query scores by words: its rarest words choose them, until they are this many.'),
        hnswChunks: z
          .int()
          .min(0)
          .nullable()
          .default(10_000)
          .describe(
            'From how many chunks of a space on PostgreSQL looks for likeness by an HNSW index, which finds nearly all, instead of comparing each; null never, and no index is kept. The embedded database keeps none: a row would take it 4 ms.',
          ),
        delayMs: z
          .int()
          .min(0)
          .max(60_000)
          .default(50)
          .describe('How long `npm start` gathers writes before it indexes them together, in milliseconds.'),
        engineMs: z
          .int()
          .min(10)
          .max(60_000)
          .default(3000)
          .describe('How long a search waits for Weaviate before it searches by words in PostgreSQL, in milliseconds.'),
        embedderMs: z
          .int()
          .min(10)
          .max(60_000)
          .default(2000)
          .describe(
            'How long a search waits for the vector of its query before it searches by words alone, in milliseconds.',
          ),
      })
      .prefault({})
      .describe('Search by words and by meaning.'),
    sync: z
      .strictObject({
        brakeShare: z
          .number()
          .min(0)
          .max(1)
          .default(0.3)
          .describe(
            'A run is halted, and changes nothing, where more than this share of the items agreed on with a peer is gone at once on one side.',
          ),
        brakeItems: z.int().min(0).max(1_000_000).default(20).describe('No run is halted for fewer items than this.'),
        answerMs: z
          .int()
          .min(100)
          .max(600_000)
          .default(30_000)
          .describe('How long a peer may take for one answer, in milliseconds.'),
        leaseMs: z
          .int()
          .min(1000)
          .max(3_600_000)
          .default(60_000)
          .describe(
            'How long a run that says nothing keeps its peer, in milliseconds; it must be longer than `answerMs`. After that another run takes over.',
          ),
        delayMs: z
          .int()
          .min(0)
          .max(60_000)
          .default(200)
          .describe(
            'How long `npm start` gathers writes before it runs the peers that have an interval, in milliseconds.',
          ),
        idleSeconds: z
          .int()
          .min(0)
          .max(86_400)
          .default(300)
          .describe('How long a connection to a peer is kept open after a run, in seconds.'),
      })
      .refine(({ answerMs, leaseMs }) => leaseMs > answerMs, { error: 'is more than answerMs', path: ['leaseMs'] })
      .prefault({})
      .describe('Synchronisation with peers.'),
    factory: z
      .strictObject({
        capture: z
          .enum(['all', 'asked', 'nothing'])
          .default('all')
          .describe(
            'What is kept of hook events: `all` of it, credentials masked; what was `asked` to be remembered, by prompts and by tools of memory servers; or `nothing`. Packs are answered in any case.',
          ),
        packTokens: z
          .int()
          .min(100)
          .max(50_000)
          .default(2000)
          .describe('How large the pack is that a session begins with, in tokens of about four characters.'),
        promptTokens: z
          .int()
          .min(100)
          .max(50_000)
          .default(1000)
          .describe('How large the pack is that goes with a prompt, likewise.'),
        packMs: z
          .int()
          .min(10)
          .max(60_000)
          .default(1200)
          .describe('How long an answer waits for its pack before it goes without, in milliseconds.'),
        sessionBytes: z
          .int()
          .min(4096)
          .max(1_048_576)
          .default(262_144)
          .describe('How large the context of a session grows before a child of it goes on, in bytes.'),
        attempts: z
          .int()
          .min(1)
          .max(100)
          .default(5)
          .describe('How often an event is tried before it is dead and the next ones of its session go on.'),
        retryMs: z
          .int()
          .min(1)
          .max(600_000)
          .default(1000)
          .describe(
            'How long after its first failure an event is tried again, in milliseconds; each time twice as long.',
          ),
        leaseMs: z
          .int()
          .min(1000)
          .max(3_600_000)
          .default(30_000)
          .describe('How long a worker that says nothing keeps its session, in milliseconds.'),
        doneDays: days.min(1).default(3).describe('How long an event is kept after it was done, in days.'),
        deadDays: days.min(1).default(30).describe('How long a dead event waits to be replayed, in days.'),
        sessionDays: days
          .min(1)
          .default(400)
          .describe(
            'How long after its last event it is known which messages of a session were taken, in days. Contexts stay.',
          ),
        ownServers: z
          .array(z.string().min(1).max(100))
          .max(20)
          .default(['lamina'])
          .describe(
            'What Droid calls this store among its MCP servers: a tool of a server whose name holds one of these has written here already.',
          ),
      })
      .prefault({})
      .describe("Factory's Droid: hook events and context packs."),
    schedules: z
      .strictObject({
        cleanupMinutes: z
          .number()
          .min(0)
          .max(1440)
          .default(60)
          .describe('Minutes between cleanups when `npm start` runs them; 0 runs none.'),
        warmMinutes: z
          .number()
          .min(0)
          .max(1440)
          .default(15)
          .describe('Minutes between warmings of the caches, the first soon after the start; 0 runs none.'),
        indexMinutes: z
          .number()
          .min(0)
          .max(1440)
          .default(5)
          .describe(
            'Minutes between looks for what other processes have written and nobody has indexed; what `npm start` writes itself is indexed at once. 0 looks never.',
          ),
        reconcileMinutes: z
          .number()
          .min(0)
          .max(1440)
          .default(5)
          .describe(
            'Minutes between comparisons of layer 2 with PostgreSQL, which also remove the bytes of what was erased while layer 2 was away; 0 runs none.',
          ),
        syncMinutes: z
          .number()
          .min(0)
          .max(1440)
          .default(1)
          .describe(
            'Minutes between looks for peers that are due and that no other process has run; what `npm start` knows of is run on time, and soon after a write. 0 looks never.',
          ),
        factoryMinutes: z
          .number()
          .min(0)
          .max(1440)
          .default(1)
          .describe(
            'Minutes between looks for hook events that nobody has worked; what `npm start` receives itself is worked at once. 0 looks never.',
          ),
      })
      .prefault({})
      .describe('What runs by itself.'),
    features: z
      .strictObject({
        docs: z.boolean().default(true).describe('Serve `/docs` and `/openapi.json`.'),
        compression: z.boolean().default(true).describe('Compress answers for callers that accept it.'),
      })
      .prefault({})
      .describe('Parts that can be switched off.'),
    alerts: z
      .strictObject({
        databaseMs: z
          .number()
          .positive()
          .max(60_000)
          .default(250)
          .describe(
            '`/readyz` and `/v1/stats` warn when the database takes longer than this to answer, in milliseconds.',
          ),
        cacheHitRate: z
          .number()
          .min(0)
          .max(1)
          .default(0.85)
          .describe('`/v1/stats` warns when the caches together answer a smaller share of the reads than this.'),
        syncMs: z
          .number()
          .positive()
          .max(600_000)
          .default(100)
          .describe(
            '`/v1/stats` warns when telling layer 2 of a write takes longer than this on average, in milliseconds.',
          ),
        spaceBytes: z
          .number()
          .positive()
          .default(10_737_418_240)
          .describe('`/v1/stats` warns when the contents of a space weigh more than this, in bytes.'),
        layer3Bytes: z
          .number()
          .positive()
          .default(1_073_741_824)
          .describe('`/v1/stats` warns when layer 3 of a space weighs more than this, in bytes.'),
      })
      .prefault({})
      .describe('Thresholds above which operators are warned.'),
    alarms: z
      .strictObject({
        emails: z
          .array(z.email())
          .max(20)
          .default([])
          .describe('Who is written to when an alarm of a deployment on AWS goes off or is over.'),
        minutes: z.int().min(1).max(60).default(5).describe('How long an alarm gathers before it judges, in minutes.'),
        functionErrors: z
          .int()
          .min(1)
          .default(1)
          .describe('Invocations of a function that failed: an error nobody caught, its time or its memory was over.'),
        loggedErrors: z.int().min(1).default(5).describe('Errors that a function has logged and gone on after.'),
        throttles: z.int().min(1).default(10).describe('Requests to the API that found no function free.'),
        apiFailures: z.int().min(1).default(5).describe('Answers of the API with a status of 500 or more.'),
        apiMs: z
          .number()
          .positive()
          .max(60_000)
          .default(3000)
          .describe(
            'What 95 of 100 answers of the API take at most, in milliseconds, those included that wait for changes.',
          ),
        queueSeconds: z
          .int()
          .min(1)
          .max(1_209_600)
          .default(900)
          .describe(
            'How long the oldest message of a queue has waited, in seconds; what failed once comes again after 720, and `npm run graph` refuses less than it takes then.',
          ),
        deadLetters: z.int().min(1).default(1).describe('Messages that were given up and lie in a dead-letter queue.'),
        logDays: z
          .literal([1, 3, 5, 7, 14, 30, 60, 90, 120, 150, 180, 365, 400, 545, 731, 1827, 3653])
          .default(30)
          .describe('How long CloudWatch keeps logs, in days; it knows only these numbers.'),
      })
      .prefault({})
      .describe('What a deployment on AWS raises an alarm about, each from this number on: see docs/deploy.md.'),
  })
  .prefault({});

/** The settings, every key present. */
export type Settings = z.output<typeof settingsSchema>;

/** The settings of an empty file. */
export const defaultSettings: Settings = settingsSchema.parse({});
