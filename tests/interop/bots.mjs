// Bots written with grammY on one storage: updates come as JSON lines on stdin, and what their handlers saw goes to
// stdout. No bot ever talks to a network; each line is answered with one.
import { createInterface } from "node:readline";
import { FileAdapter } from "@grammyjs/storage-file";
import { MongoDBAdapter } from "@grammyjs/storage-mongodb";
import { PsqlAdapter } from "@grammyjs/storage-psql";
import { RedisAdapter } from "@grammyjs/storage-redis";
import { Bot, enhanceStorage, lazySession, session } from "grammy";
import { Redis } from "ioredis";
import { MongoClient } from "mongodb";
import pg from "pg";

const open = {
  file: (place) => [new FileAdapter({ dirName: place.folder }), () => {}],
  redis: (place) => {
    const instance = new Redis(place.url);
    return [new RedisAdapter({ instance }), () => instance.quit()];
  },
  mongodb: async (place) => {
    const client = await MongoClient.connect(place.url);
    return [new MongoDBAdapter({ collection: client.db().collection(place.collection) }), () => client.close()];
  },
  postgresql: async (place) => {
    const client = new pg.Pool({ connectionString: place.url });
    return [await PsqlAdapter.create({ tableName: place.table, client }), () => client.end()];
  },
};

const initial = () => ({ count: 0, notes: [] });
// Each says that it has run, so that one which runs twice is found out.
const migrations = {
  1: (old) => ({ ...old, notes: [...(old.notes ?? []), "one"] }),
  2: (old) => ({ ...old, notes: [...old.notes, "two"] }),
  3: (old) => ({ ...old, notes: [...old.notes, "three"] }),
};
const keys = {
  perUserInChat: (ctx) => `${ctx.chatId}:${ctx.from.id}`,
};

const handlers = {
  look: (value) => value,
  count: (value) => { value.count += 1; },
  note: (value, text) => { value.notes.push(text); },
  merge: (value, fields) => { Object.assign(value, fields); },
};

function make(storage, { millisecondsToLive, upTo, lazy, prefix, key, fragments }) {
  const enhanced = millisecondsToLive === undefined && upTo === undefined ? storage : enhanceStorage({
    storage,
    millisecondsToLive,
    migrations: upTo && Object.fromEntries(Object.entries(migrations).filter(([version]) => version <= upTo)),
  });
  const options = { initial, storage: enhanced, prefix, getSessionKey: keys[key] };
  const bot = new Bot("1:token", {
    botInfo: { id: 1, is_bot: true, first_name: "Pizza", username: "pizza_bot", can_join_groups: true },
  });
  if (fragments) {
    const parts = fragments.map((name) => [name, { ...options, prefix: `${name}:` }]);
    bot.use(session({ type: "multi", ...Object.fromEntries(parts) }));
  } else {
    bot.use((lazy ? lazySession : session)(options));
  }
  bot.on("message", async (ctx) => {
    const { order, argument, fragment } = JSON.parse(ctx.message.text);
    if (order === "ignore") return;
    if (order === "delete") {
      ctx.session = null;
    } else if (order === "assign") {
      ctx.session = argument;
    } else {
      const value = await (fragment ? ctx.session[fragment] : ctx.session);
      handlers[order](value, argument);
      seen = structuredClone(value);
    }
  });
  return bot;
}

let number = 0;
let seen; // of the one update that is handled at a time

async function handle(bot, { chat, user, ...order }) {
  number += 1;
  seen = null;
  await bot.handleUpdate({
    update_id: number,
    message: {
      message_id: number,
      date: 1700000000,
      chat: { id: chat, type: chat < 0 ? "supergroup" : "private", title: "Group", first_name: "Ann" },
      from: { id: user ?? 7, is_bot: false, first_name: "Ann" },
      text: JSON.stringify(order),
    },
  });
  return seen;
}

const place = JSON.parse(process.argv[2]);
const [storage, close] = await open[place.kind](place);
const bots = new Map();
console.log("{}"); // ready, and its table is made

for await (const line of createInterface({ input: process.stdin })) {
  const { options, times = 1, ...order } = JSON.parse(line);
  try {
    const name = JSON.stringify(options);
    if (!bots.has(name)) bots.set(name, make(storage, options));
    for (let time = 0; time < times; time++) await handle(bots.get(name), order);
    console.log(JSON.stringify({ seen }));
  } catch (error) {
    console.log(JSON.stringify({ error: `${error.error ?? error}` }));
  }
}
await close();
