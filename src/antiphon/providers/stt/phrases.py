"""What anybody says on the telephone, whatever the call is about. Part of every language model."""

from __future__ import annotations

import random

GENERAL = """
hello
hello there
hi
hi there
hey
good morning
good afternoon
good evening
namaste
yes
yes please
yes that's right
yes that is correct
yeah
yeah sure
yep
no
no thanks
no thank you
no that's all
no that is not what i asked
nope
not really
okay
ok
okay thank you
okay thanks
alright
all right
sure
right
fine
great
great thanks
correct
exactly
i see
got it
mm hmm
uh huh
hmm
um
thanks
thank you
thank you very much
thank you so much
thanks a lot
thanks for your help
thanks that's all
that's all
that is all
that will be all
that's all i wanted to know
goodbye
good bye
bye
bye bye
okay bye
see you
talk to you later
have a nice day
sorry
i'm sorry
excuse me
pardon
sorry what
what
what was that
what did you say
say that again
say that again please
please say that again
can you say that again
could you say that again please
can you repeat that
can you repeat that please
could you repeat that please
please repeat
please repeat that
repeat that please
i didn't catch that
i did not catch that
i didn't hear you
i can't hear you
can you hear me
are you there
are you still there
hello are you there
can you speak slowly
please speak slowly
slower please
please speak up
louder please
wait
wait a minute
wait a second
wait please
one moment
one moment please
one second
just a moment
hold on
hold on please
stop
please stop
stop talking
never mind
forget it
go on
go ahead
continue
please continue
please go on
tell me more
tell me more about that
can you tell me more
i want to know more
what else
anything else
what about
and what about
how about
what do you mean
what does that mean
i don't understand
i do not understand
i don't know
i'm not sure
i have a question
i have another question
i have one more question
one more question
can i ask you something
can i ask another question
i want to ask about
i would like to ask about
i'd like to know about
i would like to know about
i want to know about
can you tell me about
could you tell me about
please tell me about
tell me about
do you know
do you have
is there
are there
how do i
how can i
how much is it
how much does it cost
how much does that cost
how much
how many
how long
how long does it take
how long will it take
how far
when
when is it
when is the last date
when can i
where
where is it
where are you
where can i
which one
who
who are you
who is this
who can i talk to
why
why not
what is your name
what's your name
my name is
are you a person
are you a robot
are you a machine
am i talking to a machine
can i talk to a person
can i speak to a person
can i talk to a human
can i speak to someone
i want to talk to a person
i want to speak to someone
i want to speak to a human
i would like to speak to a person
let me talk to a person
connect me to a person
connect me to an agent
transfer me
transfer me to a person
transfer me please
operator
agent please
help
help me
can you help me
can you help me please
i need help
i need some help
i need information
i need some information
what can you do
what can i ask
please call me back
can you call me back
call me back later
can you send me an email
please send me an email
can you send me a message
please send it to me
what is the phone number
what is the email address
what is the website
what is the address
today
tomorrow
next week
next month
this year
next year
in english
in hindi
in telugu
in gujarati
can you speak hindi
can you speak telugu
can you speak gujarati
can you speak english
do you speak hindi
do you speak telugu
do you speak gujarati
do you speak english
please speak hindi
please speak in hindi
please speak in telugu
please speak in gujarati
please speak in english
switch to hindi
switch to telugu
switch to gujarati
switch to english
change the language
one
two
three
four
five
six
seven
eight
nine
zero
ten
first
second
third
the first one
the second one
the last one
option one
option two
option three
number one
number two
number three
"""

_DIGITS = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "oh", "double"]


def general() -> list[str]:
    """The phrases above and strings of digits, the same ones every time."""
    chance = random.Random(8004)  # noqa: S311 - example sentences, not secrets
    spoken = [" ".join(chance.choices(_DIGITS, k=length)) for length in (3, 4, 5, 6, 8, 10, 10, 10) for _ in range(8)]
    return [line for line in GENERAL.splitlines() if line] + spoken
