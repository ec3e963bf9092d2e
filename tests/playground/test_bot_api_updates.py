"""Every kind of update, as aiogram's strict types read it from the wire."""

import pytest
from aiogram import Bot
from aiogram.types import ChatMemberAdministrator, ChatMemberBanned, Update

from chatsession_playground.bot_api import BotApiServer, User

BEN = User(2, "Ben", "ben")


async def only_update(bot: Bot) -> Update:
    (update,) = await bot.get_updates(offset=-1)
    return update


async def test_messages_and_commands(api: BotApiServer, bot: Bot) -> None:
    ann = api.private_chat(1, "Ann")
    ann.send("/reset now")
    message = (await only_update(bot)).message
    assert message is not None
    assert message.entities is not None
    assert (message.chat.id, message.chat.type, message.text) == (1, "private", "/reset now")
    assert (message.entities[0].type, message.entities[0].length) == ("bot_command", 6)

    group = api.group()
    first = group.send("hello", user=BEN)
    group.send("hello yourself", reply_to=first.message_id)
    message = (await only_update(bot)).message
    assert message is not None
    assert message.reply_to_message is not None
    assert message.reply_to_message.from_user is not None
    assert message.reply_to_message.from_user.id == BEN.id
    assert message.message_thread_id is None


async def test_edits(api: BotApiServer, bot: Bot) -> None:
    ann, channel = api.private_chat(1), api.channel()
    ann.edit(ann.send("helo"), "hello")
    edited = (await only_update(bot)).edited_message
    assert edited is not None
    assert (edited.text, edited.edit_date is not None) == ("hello", True)

    channel.edit(channel.send("post").message_id, "better post")
    post = (await only_update(bot)).edited_channel_post
    assert post is not None
    assert (post.text, post.from_user) == ("better post", None)


async def test_channel_posts(api: BotApiServer, bot: Bot) -> None:
    channel = api.channel()
    channel.send("news")
    post = (await only_update(bot)).channel_post
    assert post is not None
    assert (post.chat.id, post.chat.type, post.from_user) == (channel.id, "channel", None)


async def test_topics(api: BotApiServer, bot: Bot) -> None:
    forum = api.supergroup(topics=["News"])
    message = (await only_update(bot)).message
    assert message is not None
    assert message.forum_topic_created is not None
    assert message.message_thread_id == message.message_id == forum.topics["News"]
    forum.send("hello", thread_id=forum.create_topic("Help"))
    message = (await only_update(bot)).message
    assert message is not None
    assert (message.is_topic_message, message.message_thread_id) == (True, forum.topics["Help"])
    assert message.chat.is_forum


async def test_a_thread_of_replies_is_not_a_topic(api: BotApiServer, bot: Bot) -> None:
    supergroup = api.supergroup()
    first = supergroup.send("one")
    second = supergroup.send("two", reply_to=first.message_id)
    supergroup.send("three", reply_to=second.message_id)
    message = (await only_update(bot)).message
    assert message is not None
    assert (message.message_thread_id, message.is_topic_message) == (first.message_id, None)


async def test_buttons(api: BotApiServer, bot: Bot) -> None:
    ann = api.private_chat(1)
    sent = await bot.send_message(1, "press")
    await bot.send_message(1, "last")
    ann.press("one", message=await ann.receive())
    query = (await only_update(bot)).callback_query
    assert query is not None
    assert query.message is not None
    assert (query.data, query.message.message_id) == ("one", sent.message_id)
    update = ann.press("two", user=BEN)
    query = (await only_update(bot)).callback_query
    assert query is not None
    assert query.message is not None
    assert (query.from_user.id, query.message.message_id) == (BEN.id, update.message_id)
    assert update.message_id == sent.message_id + 1

    api.press_inline(BEN, "three")
    query = (await only_update(bot)).callback_query
    assert query is not None
    assert (query.message, query.inline_message_id) == (None, "inline-1")


async def test_only_what_is_there_can_be_pressed_edited_or_answered(api: BotApiServer) -> None:
    ann = api.private_chat(1)
    for impossible in (
        lambda: ann.press("more"),
        lambda: ann.edit(5, "hello"),
        lambda: ann.send("hello", reply_to=5),
    ):
        with pytest.raises(ValueError, match=r"chat 1 has no message \d"):
            impossible()
    with pytest.raises(ValueError, match="in business chats only"):
        ann.delete(ann.send("hello"))


async def test_inline_mode(api: BotApiServer, bot: Bot) -> None:
    api.inline_query(BEN, "piz")
    query = (await only_update(bot)).inline_query
    assert query is not None
    assert (query.query, query.from_user.id) == ("piz", BEN.id)
    api.chosen_inline_result(BEN, "1", "piz")
    chosen = (await only_update(bot)).chosen_inline_result
    assert chosen is not None
    assert chosen.result_id == "1"


async def test_polls(api: BotApiServer, bot: Bot) -> None:
    api.poll("p1", "Topping?", {"Cheese": 2, "Ham": 1})
    poll = (await only_update(bot)).poll
    assert poll is not None
    assert (poll.total_voter_count, [option.text for option in poll.options]) == (3, ["Cheese", "Ham"])
    api.poll_answer(BEN, "p1", [1])
    answer = (await only_update(bot)).poll_answer
    assert answer is not None
    assert (answer.poll_id, answer.option_ids) == ("p1", [1])


async def test_reactions(api: BotApiServer, bot: Bot) -> None:
    ann = api.private_chat(1)
    message = ann.send("hello")
    ann.react(message, "👍")
    ann.react(message.message_id, "👎")
    reaction = (await only_update(bot)).message_reaction
    assert reaction is not None
    assert reaction.message_id == message.message_id
    assert [kind.type for kind in reaction.old_reaction] == ["emoji"]
    assert reaction.new_reaction[0].model_dump() == {"type": "emoji", "emoji": "👎"}


async def test_members(api: BotApiServer, bot: Bot) -> None:
    await bot.get_updates(allowed_updates=["my_chat_member", "chat_member"])  # the latter only on demand
    group = api.group()
    group.set_bot_status("administrator", user=BEN)
    mine = (await only_update(bot)).my_chat_member
    assert mine is not None
    assert isinstance(mine.new_chat_member, ChatMemberAdministrator)
    assert (mine.from_user.id, mine.new_chat_member.user.id, mine.old_chat_member.status) == (2, 42, "member")

    group.set_member_status(BEN, "member", "kicked")
    theirs = (await only_update(bot)).chat_member
    assert theirs is not None
    assert isinstance(theirs.new_chat_member, ChatMemberBanned)
    assert theirs.new_chat_member.user.id == BEN.id


async def test_business(api: BotApiServer, bot: Bot) -> None:
    api.business_connection(BEN, "shop")
    connection = (await only_update(bot)).business_connection
    assert connection is not None
    assert (connection.id, connection.user.id, connection.is_enabled) == ("shop", BEN.id, True)

    customer = api.business_chat(1, connection_id="shop", owner=BEN)
    asked = customer.send("open today?")
    message = (await only_update(bot)).business_message
    assert message is not None
    assert (message.business_connection_id, message.chat.id) == ("shop", 1)
    customer.edit(asked, "open tomorrow?")
    edited = (await only_update(bot)).edited_business_message
    assert edited is not None
    assert edited.business_connection_id == "shop"
    customer.delete(asked)
    deleted = (await only_update(bot)).deleted_business_messages
    assert deleted is not None
    assert deleted.message_ids == [asked.message_id]


async def test_a_group_becomes_a_supergroup(api: BotApiServer, bot: Bot) -> None:
    group = api.group(title="Friends")
    supergroup = group.migrate()
    old, new = await bot.get_updates()
    assert old.message is not None
    assert new.message is not None
    assert (old.message.chat.id, old.message.migrate_to_chat_id) == (group.id, supergroup.id)
    assert (new.message.chat.id, new.message.migrate_from_chat_id) == (supergroup.id, group.id)
    assert (new.message.chat.type, new.message.chat.title) == ("supergroup", "Friends")

    group.send("late")  # updates may still arrive under the old id
    late = (await only_update(bot)).message
    assert late is not None
    assert late.chat.id == group.id


async def test_the_two_messages_of_a_migration_come_in_any_order(api: BotApiServer, bot: Bot) -> None:
    api.group().migrate(to_first=False)
    first, second = await bot.get_updates()
    assert first.message is not None
    assert second.message is not None
    assert first.message.migrate_from_chat_id is not None
    assert second.message.migrate_to_chat_id is not None


async def test_anything_else_can_be_injected(api: BotApiServer, bot: Bot) -> None:
    removed = {"chat": {"id": 1, "type": "private"}, "boost_id": "b", "remove_date": 1}
    update = api.inject("removed_chat_boost", removed | {"source": {"source": "premium", "user": BEN.json()}})
    assert (await only_update(bot)).update_id == update.id
