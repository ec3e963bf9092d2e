"""getUpdates as aiogram and as bare calls use it: offsets, redelivery, conflicts, several bots."""

import asyncio

import pytest
from aiogram import Bot, Dispatcher
from aiogram.exceptions import TelegramConflictError, TelegramUnauthorizedError
from aiogram.types import Message
from playground_bots import aiogram_bot, polling

from chatsession_playground.bot_api import BotApiServer


async def test_an_aiogram_bot_talks_to_several_people_at_once(api: BotApiServer) -> None:
    dispatcher = Dispatcher()

    @dispatcher.message()
    async def echo(message: Message) -> None:
        assert message.from_user is not None
        await message.answer(f"{message.from_user.first_name} said {message.text}")

    ann, ben = api.private_chat(1, "Ann"), api.private_chat(2, "Ben")
    async with polling(api, dispatcher):
        ann.send("one")
        ben.send("two")
        ann.send("three")
        assert (await ben.receive()).text == "Ben said two"
        assert {(await ann.receive()).text for _ in range(2)} == {"Ann said one", "Ann said three"}


async def test_updates_stay_until_a_higher_offset_confirms_them(api: BotApiServer, bot: Bot) -> None:
    ann = api.private_chat(1)
    first, second = ann.send("1"), ann.send("2")

    assert [update.update_id for update in await bot.get_updates()] == [first.id, second.id]
    assert [update.update_id for update in await bot.get_updates()] == [first.id, second.id]
    assert [update.update_id for update in await bot.get_updates(offset=second.id)] == [second.id]
    assert api.pending == [second]
    assert await bot.get_updates(offset=second.id + 1) == []
    assert api.pending == []


async def test_limit_and_negative_offset(api: BotApiServer, bot: Bot) -> None:
    updates = [api.private_chat(1).send(str(number)) for number in range(5)]

    assert [update.update_id for update in await bot.get_updates(limit=2)] == [u.id for u in updates[:2]]
    assert [update.update_id for update in await bot.get_updates(offset=-2)] == [u.id for u in updates[3:]]
    assert api.pending == updates[3:]


async def test_a_long_poll_ends_with_the_first_update(api: BotApiServer, bot: Bot) -> None:
    poll = asyncio.create_task(bot.get_updates(timeout=50))
    await api.idle()
    update = api.private_chat(1).send("hello")

    assert [received.update_id for received in await poll] == [update.id]


async def test_a_long_poll_ends_empty_when_its_time_is_over(bot: Bot) -> None:
    assert await bot.get_updates(timeout=1) == []


async def test_the_older_of_two_polls_gets_a_conflict(api: BotApiServer, bot: Bot) -> None:
    older = asyncio.create_task(bot.get_updates(timeout=50))
    await api.idle()
    newer = asyncio.create_task(bot.get_updates(timeout=50))

    with pytest.raises(TelegramConflictError, match="terminated by other getUpdates request"):
        await older
    update = api.private_chat(1).send("hello")
    assert [received.update_id for received in await newer] == [update.id]


async def test_a_confirmed_update_comes_again_and_only_once(api: BotApiServer, bot: Bot) -> None:
    ann = api.private_chat(1)
    first, second = ann.send("1"), ann.send("2")
    await bot.get_updates(offset=second.id + 1)

    third = ann.send("3")
    api.redeliver(first)
    received = await bot.get_updates(offset=second.id + 1)
    assert [update.update_id for update in received] == [first.id, third.id]
    assert await bot.get_updates(offset=third.id + 1) == []


async def test_an_aiogram_bot_sees_a_redelivered_update(api: BotApiServer) -> None:
    dispatcher = Dispatcher()

    @dispatcher.message()
    async def echo(message: Message) -> None:
        await message.answer(str(message.message_id))

    ann = api.private_chat(1)
    async with polling(api, dispatcher):
        update = ann.send("hello")
        await ann.receive()
        api.redeliver(update.id)
        assert (await ann.receive()).text == str(update.message_id)


async def test_only_wanted_kinds_are_delivered(api: BotApiServer, bot: Bot) -> None:
    ann = api.private_chat(1)
    message = ann.send("hello")
    await bot.get_updates(offset=message.id + 1, allowed_updates=["message_reaction"])

    ann.send("not wanted")
    reaction = ann.react(message, "👍")
    received = await bot.get_updates()  # the last word about allowed updates holds on
    assert [update.update_id for update in received] == [reaction.id]

    await bot.get_updates(offset=reaction.id + 1, allowed_updates=[])  # everything but a few
    ann.react(message, "👎")
    message = ann.send("wanted again")
    assert [update.update_id for update in await bot.get_updates()] == [message.id]


async def test_bots_are_apart(api: BotApiServer, bot: Bot) -> None:
    other = api.bot("43:other")
    assert api.bot("43:other") is other
    mine, theirs = api.private_chat(1).send("mine"), other.private_chat(1).send("theirs")

    async with aiogram_bot(api, "43:other") as other_bot:
        assert (await other_bot.me()).id == 43
        (update,) = await other_bot.get_updates()
    assert update.message is not None
    assert update.message.text == "theirs"
    assert (api.pending, other.pending) == ([mine], [theirs])
    assert api.calls == []
    assert [call.method for call in other.calls] == ["getMe"]


async def test_a_token_nobody_knows_is_refused(api: BotApiServer) -> None:
    async with aiogram_bot(api, "44:stranger") as stranger:
        with pytest.raises(TelegramUnauthorizedError):
            await stranger.me()


async def test_leaving_ends_a_long_poll() -> None:
    async with BotApiServer() as api, aiogram_bot(api) as bot:
        poll = asyncio.create_task(bot.get_updates(timeout=50))
        await api.idle()
        await api.__aexit__(None, None, None)
        with pytest.raises(Exception, match="Bad Gateway"):
            await poll


async def test_a_wait_for_the_bot_says_what_it_did_instead(api: BotApiServer, bot: Bot) -> None:
    await bot.me()
    ann = api.private_chat(1)
    ann.send("hello")
    with pytest.raises(TimeoutError, match=r"no message to chat 1 .* getMe; 1 updates are not confirmed"):
        await ann.receive(timeout=0)
    with pytest.raises(TimeoutError, match="no call of sendMessage"):
        await api.next_call("sendMessage", timeout=0)


async def test_an_answer_can_be_held_back(api: BotApiServer, bot: Bot) -> None:
    ann = api.private_chat(1)
    with api.hold("sendMessage"):
        sending = asyncio.create_task(bot.send_message(1, "hello"))
        assert (await ann.receive()).text == "hello"
        await bot.get_chat(1)
        assert not sending.done()
    assert (await sending).text == "hello"
