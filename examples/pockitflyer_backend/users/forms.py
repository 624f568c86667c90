"""The form for a picture. Whether it is one, the service finds out from its bytes."""

from django import forms


class PictureForm(forms.Form):
    """One file."""

    picture = forms.FileField(
        label="Your picture",
        help_text="JPEG, PNG or HEIC, at most 5 MB.",
        allow_empty_file=True,  # the service says what is wrong with it
        widget=forms.FileInput(attrs={"accept": "image/jpeg,image/png,image/heic,.heic"}),
    )
