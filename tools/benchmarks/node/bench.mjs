// One bot of grammY or Telegraf on one storage. Orders come as JSON lines on stdin: {"run": updates} and {"count": true};
// each is answered with one line. Updates go through bot.handleUpdate, as a webhook would hand them over; no bot ever
// talks to a network.
import { readFile } from "node:fs/promises";
import { createInterface } from "node:readline";
import { FileAdapter } from "@grammyjs/storage-file";
import { MongoDBAdapter } from "@grammyjs/storage-mongodb";
import { PsqlAdapter } from "@grammyjs/storage-psql";
import { RedisAdapter } from "@grammyjs/storage-redis";
import { Mongo } from "@telegraf/session/mongodb";
import { Postgres } from "@telegraf/session/pg";
import { Redis as RedisStore } from "@telegraf/session/redis";
import { Bot, MemorySessionStorage, session as grammySession } from "grammy";
import { Redis } from "ioredis";
import { MongoClient } from "mongodb";
import pg from "pg";
import { session as telegrafSession, Telegraf } from "telegraf";
import LocalSession from "telegraf-session-local";

const { framework, storage, place, flight, chats } = JSON.parse(process.argv[2]);
const me = { id: 1, is_bot: true, first_name: "Pizza", username: "pizza_bot", can_join_groups: true };

const initial = () => ({
  count: 0,
  name: "Margherita with extra basil, please",
  tags: Array.from({ length: 8 }, (_, number) => `topping ${number}`),
  stock: Object.fromEntries(Array.from({ length: 10 }, (_, number) => [`shop ${number}`, 10 * number])),
});

let total = 0;

// Each gives [bot, read]: what is stored for a chat, and null where nothing is stored at all.
const bots = {
  async grammy() {
    const bot = new Bot("1:token", { botInfo: me });
    const open = {
      none: () => null,
      memory: () => new MemorySessionStorage(),
      file: () => new FileAdapter({ dirName: place }),
      redis: () => new RedisAdapter({ instance: new Redis(place) }),
      postgres: () => PsqlAdapter.create({ tableName: "grammy", client: new pg.Pool({ connectionString: place, max: 10 }) }),
      mongodb: async () => new MongoDBAdapter({ collection: (await MongoClient.connect(place)).db().collection("grammy") }),
    };
    const adapter = await open[storage]();
    if (adapter) bot.use(grammySession({ initial, storage: adapter }));
    bot.on("message", adapter ? (ctx) => { ctx.session.count += 1; } : () => { total += 1; });
    return [bot, adapter && ((chat) => adapter.read(String(chat)))];
  },

  async telegraf() {
    const bot = new Telegraf("1:token");
    bot.botInfo = me;
    const map = new Map();
    const open = {
      none: () => null,
      memory: () => ({ get: (key) => map.get(key), set: (key, value) => { map.set(key, value); }, delete: (key) => { map.delete(key); } }),
      redis: () => RedisStore({ url: place }),
      postgres: () => Postgres({ pool: new pg.Pool({ connectionString: place, max: 10 }), table: "telegraf" }),
      mongodb: () => Mongo({ url: place, collection: "telegraf" }),
      file: () => null,
    };
    const store = open[storage]();
    let read = store && ((chat) => store.get(`${chat}:${chat}`));
    if (store) {
      bot.use(telegrafSession({ store, defaultSession: initial }));
    } else if (storage === "file") {
      const database = `${place}/sessions.json`;
      const local = new LocalSession({ database, storage: LocalSession.storageFileAsync });
      await local.DB;
      bot.use(local.middleware());
      let stored;
      read = async (chat) => {
        if (chat === 1) {
          const text = await readFile(database, "utf8").catch(() => "{}");
          stored = new Map((JSON.parse(text).sessions ?? []).map(({ id, data }) => [id, data]));
        }
        return stored.get(`${chat}:${chat}`);
      };
    }
    bot.on("message", read ? (ctx) => {
      if (ctx.session.count === undefined) Object.assign(ctx.session, initial());
      ctx.session.count += 1;
    } : () => { total += 1; });
    return [bot, read];
  },
};

const [bot, read] = await bots[framework]();
const updates = Array.from({ length: chats }, (_, number) => ({
  update_id: number + 1,
  message: {
    message_id: 1,
    date: 0,
    chat: { id: number + 1, type: "private", first_name: "Ann" },
    from: { id: number + 1, is_bot: false, first_name: "Ann" },
    text: "hi",
  },
}));

async function run(count) {
  let next = 0;
  const times = new Float64Array(count);
  const worker = async () => {
    while (next < count) {
      const number = next++;
      const start = performance.now();
      await bot.handleUpdate(updates[number % chats]);
      times[number] = performance.now() - start;
    }
  };
  const cpu = process.cpuUsage();
  const start = performance.now();
  await Promise.all(Array.from({ length: flight }, worker));
  const seconds = (performance.now() - start) / 1000;
  const { user, system } = process.cpuUsage(cpu);
  times.sort();
  const points = Math.min(count, 1000);
  const latencies = Array.from({ length: points }, (_, point) => times[Math.floor((point * count) / points)] / 1000);
  return { seconds, cpu: (user + system) / 1e6, latencies };
}

async function count() {
  if (!read) return { count: total };
  let sum = 0;
  for (let chat = 1; chat <= chats; chat += 1) sum += (await read(chat))?.count ?? 0;
  return { count: sum };
}

for await (const line of createInterface({ input: process.stdin })) {
  const order = JSON.parse(line);
  console.log(JSON.stringify(order.run ? await run(order.run) : await count()));
}
process.exit(0);
