"""The tables of the tests' models."""

import uuid

from django.db import migrations, models

import holdfast.ext.django


class Migration(migrations.Migration):
    initial = True

    dependencies = []

    operations = [
        migrations.CreateModel(
            name="Note",
            fields=[
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
                    ),
                ),
                ("text", models.TextField()),
            ],
        ),
        migrations.CreateModel(
            name="Order",
            fields=[
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
                    ),
                ),
                ("is_paid", models.BooleanField(default=False)),
                ("status", holdfast.ext.django.StateField(default="", max_length=100)),
            ],
        ),
        migrations.CreateModel(
            name="Parcel",
            fields=[
                ("id", models.UUIDField(default=uuid.uuid4, primary_key=True, serialize=False)),
                ("number", models.CharField(max_length=20, unique=True)),
                ("grams", models.IntegerField(default=0)),
            ],
        ),
        migrations.CreateModel(
            name="Letter",
            fields=[
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
                    ),
                ),
                ("status", holdfast.ext.django.StateField(default="", max_length=100)),
            ],
        ),
        migrations.CreateModel(
            name="Registered",
            fields=[
                (
                    "letter_ptr",
                    models.OneToOneField(
                        auto_created=True,
                        on_delete=models.CASCADE,
                        parent_link=True,
                        primary_key=True,
                        serialize=False,
                        to="shop.letter",
                    ),
                ),
            ],
            bases=("shop.letter",),
        ),
        migrations.CreateModel(
            name="Coupon",
            fields=[
                (
                    "number",
                    models.IntegerField(db_default=1, primary_key=True, serialize=False),
                ),
                ("status", holdfast.ext.django.StateField(default="", max_length=100)),
            ],
        ),
    ]
